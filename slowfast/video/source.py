"""Interface of a source of frames, and choice of the decoding backend."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Sequence

import numpy as np

from slowfast.utils.errors import VideoError
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

# Codecs whose packets and frames correspond one to one, with exact time stamps, and in which
# frames that are not referenced by others can be skipped. Others (MPEG-4 part 2 with its packed
# frames, as in UCF101) are decoded from the start, by PyAV.
EXACT_CODECS = {"h264", "hevc", "vp8", "vp9", "av1", "mpeg2video", "mjpeg"}


Clip = Sequence[np.ndarray]  # frames ``H W 3``, uint8 RGB; a list or an array ``T H W 3``


class Source:
    """An open video file or frame folder.

    Backends set ``path``, ``num_frames`` (number of readable frames) and ``fps`` (average frame
    rate), and implement :meth:`decode`.
    """

    path: str
    num_frames: int
    fps: float

    def decode(self, indices: list[int]) -> dict[int, np.ndarray]:
        """Frames ``H W 3`` by index, in one pass; ``indices`` are sorted and distinct.

        VideoError if one of them cannot be decoded.
        """
        raise NotImplementedError

    def clips(self, index_lists: Sequence[Sequence[int]]) -> list[list[np.ndarray]]:
        """One clip per index list, decoded in one pass; clips share frames, nothing is copied."""
        distinct = sorted({int(i) for indices in index_lists for i in indices})
        if distinct and (distinct[0] < 0 or distinct[-1] >= self.num_frames):
            raise VideoError(
                self.path,
                f"frames {distinct[0]}..{distinct[-1]} requested, it has {self.num_frames}",
            )
        decoded = self.decode(distinct)
        return [[decoded[int(i)] for i in indices] for indices in index_lists]

    def frames(self, index_lists: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Like :meth:`clips`, each clip as one array ``T H W 3``."""
        return [np.stack(clip) for clip in self.clips(index_lists)]


@functools.cache
def resolve_backend(name: str) -> str:
    """The backend for ``DATA.DECODING_BACKEND``; falls back to PyAV with one warning."""
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

    ``threads``: whether the decoder may use several threads.
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

        # PyAV takes what torchcodec cannot open or would decode differently; its error messages
        # are also the more precise ones.
        with contextlib.suppress(VideoError):
            source = TorchcodecSource(path, threads)
            if source.is_exact:
                return source
    from slowfast.video.backends.pyav import PyAVSource

    return PyAVSource(path, threads)


def open_source(
    path: str, template: str, num_frames: int = 0, backend: str = "pyav", threads: bool = False
) -> Source:
    """Open a frame folder (images named by ``template``, counted if ``num_frames`` is 0) or a
    video file."""
    if not os.path.isdir(path):
        return open_video(path, backend, threads)
    from slowfast.video.backends.frames import FrameFolder

    return FrameFolder(path, template, num_frames or None)
