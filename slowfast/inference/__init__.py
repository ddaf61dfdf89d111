"""Trained networks applied to videos: in Python, over folders and streams, in other formats."""
