"""Sentences about classes, written by a chat model in two stages (STDD, arXiv 2412.09895): a graph
of objects and sub-actions (ASKG), then completions of a sentence; and their features."""
