"""Random erasing (arXiv 1708.04896) in cube mode: the same box in all frames, new noise in each.

The boxes are drawn with the sample (in the worker) and filled on the device after normalisation,
because noise N(0, 1) on the scale of normalised values does not fit into uint8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

_AREA = (1 / 50, 1 / 3)
_LOG_ASPECT = (math.log(0.3), math.log(1 / 0.3))


@dataclass(frozen=True)
class RandomErasing:
    """With probability ``prob``, one to ``count`` boxes per clip."""

    prob: float
    mode: str = "pixel"
    count: int = 1

    def draw(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """``count 5`` int64: top, left, height, width, noise seed; unused rows are zero."""
        rows = np.zeros((self.count, 5), dtype=np.int64)
        if rng.random() >= self.prob:
            return rows
        boxes = int(rng.integers(1, self.count, endpoint=True))
        for row in rows[:boxes]:
            row[:] = self._box(height, width, boxes, rng)
        return rows

    def _box(self, height: int, width: int, boxes: int, rng: np.random.Generator) -> list[int]:
        for _ in range(100):
            area = rng.uniform(*_AREA) * height * width / boxes
            aspect = math.exp(rng.uniform(*_LOG_ASPECT))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < h < height and 0 < w < width:
                top = int(rng.integers(0, height - h, endpoint=True))
                left = int(rng.integers(0, width - w, endpoint=True))
                return [top, left, h, w, int(rng.integers(2**31))]
        return [0, 0, 0, 0, 0]


def erase(video: torch.Tensor, boxes: torch.Tensor, mode: str) -> None:
    """Fill ``boxes`` (``B count 5``) of a normalised batch ``B C T H W`` in place.

    ``mode``: ``const`` zeros, ``rand`` one colour per frame, ``pixel`` noise per pixel.
    """
    for clip, rows in zip(video, boxes.tolist()):
        for top, left, h, w, seed in rows:
            if h == 0:
                continue
            channels, frames = clip.shape[:2]
            shape = {"pixel": (channels, frames, h, w), "rand": (channels, frames, 1, 1)}
            region = clip[:, :, top : top + h, left : left + w]
            if mode == "const":
                region.zero_()
                continue
            generator = torch.Generator(video.device).manual_seed(seed)
            noise = torch.randn(shape[mode], generator=generator, device=video.device)
            region.copy_(noise.expand_as(region))
