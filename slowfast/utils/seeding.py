"""Random numbers that depend on names and numbers only, never on the order of calls."""

from __future__ import annotations

import zlib

import numpy as np


def sample_rng(seed: int, epoch: int, index: int, purpose: str = "sample") -> np.random.Generator:
    """The generator of one sample: the same for (seed, epoch, index) in any worker."""
    tag = zlib.crc32(purpose.encode())
    return np.random.Generator(np.random.PCG64([tag, seed & 0xFFFFFFFF, epoch, index]))
