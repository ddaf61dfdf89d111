"""Metrics: top-k, views of a video, average precision."""
