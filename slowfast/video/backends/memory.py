"""Frames that are in memory already, as a source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from slowfast.utils.errors import VideoError
from slowfast.video.source import MAX_PIXELS, Source, as_it_is, check_pixels

T = TypeVar("T")


class MemorySource(Source):
    """Frames ``T H W 3``, uint8 RGB, as an array or a list of arrays ``H W 3``.

    ``path`` names them in messages. VideoError if there are none, or if they are something else.
    """

    def __init__(
        self,
        frames: np.ndarray | Sequence[np.ndarray],
        fps: float = 30.0,
        path: str = "frames in memory",
        max_pixels: int = MAX_PIXELS,
    ):
        self.path, self.fps, self._frames = path, fps, frames
        self.num_frames = len(frames)
        if not self.num_frames:
            raise VideoError(path, "holds no frames")
        shapes = {frame.shape for frame in frames}
        kinds = {str(frame.dtype) for frame in frames}
        shape = min(shapes)
        if len(shapes) > 1 or len(shape) != 3 or shape[-1] != 3 or 0 in shape:
            raise VideoError(path, f"frames are H W 3, these are {_named(shapes)}")
        if kinds != {"uint8"}:
            raise VideoError(path, f"frames are uint8 from 0 to 255, these are {_named(kinds)}")
        height, width = shape[:2]
        check_pixels(path, width, height, max_pixels)
        self.pixels = width * height

    def decode(
        self, indices: list[int], work: Callable[[np.ndarray], T] = as_it_is
    ) -> dict[int, T]:
        return {index: work(self._frames[index]) for index in indices}


def _named(values: set) -> str:
    return ", ".join(str(value) for value in sorted(values)[:3])
