"""The contract of a source of frames, and the choice of a backend."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from slowfast.utils.errors import VideoError
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)


class Source(Protocol):
    """An opened video or frame folder.

    ``num_frames`` counts what can be read, ``fps`` is the average rate.
    """

    num_frames: int
    fps: float

    def frames(self, index_lists: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Frames of several index lists in one pass: uint8 RGB, ``T H W 3`` each.

        Raises VideoError if one of them cannot be decoded.
        """
        ...


@functools.cache
def resolve_backend(name: str) -> str:
    """The backend to use for ``DATA.DECODING_BACKEND``; falls back to PyAV, saying why once."""
    if name != "torchcodec":
        return "pyav"
    from slowfast.video.backends import torchcodec

    reason = torchcodec.why_missing()
    if reason:
        logger.warning("torchcodec cannot be used, decoding with PyAV instead: %s", reason)
        return "pyav"
    return name


def open_video(path: str, backend: str = "pyav", threads: bool = False) -> Source:
    """Open a video file; VideoError if it is missing, empty or not a video.

    ``threads`` lets the decoder use several threads.
    """
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise VideoError(path, error.strerror or str(error)) from error
    if os.path.isdir(path):
        raise VideoError(path, "is a folder, not a video file")
    if size == 0:
        raise VideoError(path, "the file is empty")
    if backend == "torchcodec":
        from slowfast.video.backends.torchcodec import TorchcodecSource

        return TorchcodecSource(path, threads)
    from slowfast.video.backends.pyav import PyAVSource

    return PyAVSource(path, threads)


def gather(
    decoded: dict[int, np.ndarray], index_lists: Sequence[Sequence[int]]
) -> list[np.ndarray]:
    """Frames by index -> one ``T H W 3`` array for each list."""
    return [np.stack([decoded[int(i)] for i in indices]) for indices in index_lists]


def wanted_indices(index_lists: Sequence[Sequence[int]], num_frames: int, path: str) -> list[int]:
    """All indices of the lists once, sorted; VideoError outside ``[0, num_frames)``."""
    wanted = sorted({int(i) for indices in index_lists for i in indices})
    if wanted and (wanted[0] < 0 or wanted[-1] >= num_frames):
        raise VideoError(path, f"frames {wanted[0]}..{wanted[-1]} wanted, it has {num_frames}")
    return wanted
