"""CLIP (arXiv 2103.00020) over videos: towers, temporal modelling, zero-shot scores."""

from slowfast.models.clip import stcross, temporal  # noqa: F401  (they register their blocks)
