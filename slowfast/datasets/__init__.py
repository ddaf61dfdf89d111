"""Data sets: lists, items, samples, loaders."""
