"""A clip transform that takes a random time, for :mod:`check`, which names it in IMPORTS."""

from __future__ import annotations

import time

import numpy as np

from slowfast.analysis.scale.simulate import lognormal
from slowfast.video.transforms import TRANSFORM_REGISTRY


@TRANSFORM_REGISTRY.register("late")
def late(
    frames: np.ndarray,
    rng: np.random.Generator,
    split: str,
    mean: float = 0.05,
    deviation: float = 0.05,
) -> np.ndarray:
    """Training clips unchanged, after a random time in seconds; only in DATA.TRANSFORMS_BEFORE."""
    if split == "train":
        time.sleep(float(lognormal(mean, deviation)(rng, ())))
    return frames
