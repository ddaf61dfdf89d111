"""CLIP (arXiv 2103.00020) over videos: towers, temporal modelling, zero-shot scores."""
