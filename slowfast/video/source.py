"""Interface of a source of frames, and choice of the decoding backend."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from slowfast.utils.addresses import is_address
from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.logging import get_logger
from slowfast.utils.remote import DEFAULT, RetryPolicy
from slowfast.utils.remote_file import Extent, RemoteFile, open_extent
from slowfast.utils.runtime import gpu_count

logger = get_logger(__name__)

# Codecs whose packets and frames correspond one to one, with exact time stamps, and in which
# frames that are not referenced by others can be skipped. Others (MPEG-4 part 2 with its packed
# frames, as in UCF101) are decoded from the start, by PyAV.
EXACT_CODECS = {"h264", "hevc", "vp8", "vp9", "av1", "mpeg2video", "mjpeg"}

# What holds one frame.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

# Most pixels of a frame, unless DATA.MAX_PIXELS says otherwise: 8192 x 8192.
MAX_PIXELS = 1 << 26

_CHUNK = 16  # frames that are held together

Clip = Sequence[np.ndarray]  # frames ``H W 3``, uint8 RGB; a list or an array ``T H W 3``
T = TypeVar("T")


def as_it_is(frame: T) -> T:
    """The frame itself."""
    return frame


class Source:
    """An open video file or frame folder.

    Backends set ``path``, ``num_frames`` (number of readable frames), ``fps`` (average frame rate)
    and ``pixels`` (of a frame, 0 if that is not known before decoding), and implement
    :meth:`decode`.
    """

    path: str
    num_frames: int
    fps: float
    pixels: int = 0

    def decode(
        self, indices: list[int], work: Callable[[np.ndarray], T] = as_it_is
    ) -> dict[int, T]:
        """``work(frame)`` by index, for frames ``H W 3``, in one pass; ``indices`` are sorted and
        distinct.

        Frames are given to ``work`` one by one, and only what it returns is kept in memory. It may
        get a frame twice, when a seek has failed. VideoError if a frame cannot be decoded.
        """
        raise NotImplementedError

    def clips(
        self, index_lists: Sequence[Sequence[int]], work: Callable[[np.ndarray], T] = as_it_is
    ) -> list[list[T]]:
        """One clip per index list, decoded in one pass; clips share frames, nothing is copied.

        With ``work``, a clip is a list of what it makes of each frame.
        """
        distinct = sorted({int(i) for indices in index_lists for i in indices})
        if distinct and (distinct[0] < 0 or distinct[-1] >= self.num_frames):
            raise VideoError(
                self.path,
                f"frames {distinct[0]}..{distinct[-1]} requested, it has {self.num_frames}",
            )
        decoded = self.decode(distinct, work)
        return [[decoded[int(i)] for i in indices] for indices in index_lists]

    def in_order(self) -> Iterator[np.ndarray]:
        """All frames ``H W 3`` from the first to the last, a few in memory at a time.

        VideoError if one cannot be decoded; those before it were given.
        """
        for start in range(0, self.num_frames, _CHUNK):
            indices = list(range(start, min(start + _CHUNK, self.num_frames)))
            yield from self.decode(indices).values()

    def frames(self, index_lists: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Like :meth:`clips`, each clip as one array ``T H W 3``."""
        return [np.stack(clip) for clip in self.clips(index_lists)]


def check_pixels(path: str, width: int, height: int, most: int) -> None:
    """VideoError if a frame has more than ``most`` pixels."""
    if width * height > most:
        raise VideoError(
            path, f"frames of {width}x{height} pixels, more than DATA.MAX_PIXELS ({most})"
        )


@functools.cache
def resolve_backend(name: str, device: str = "cpu") -> str:
    """The backend for ``DATA.DECODING_BACKEND`` and ``DATA.DECODING_DEVICE``.

    torchcodec falls back to PyAV with one warning; on a GPU, which was asked for, what is missing
    is a UserError.
    """
    if name != "torchcodec":
        return "pyav"
    from slowfast.video.backends import torchcodec

    reason = torchcodec.why_missing()
    if device == "cuda":
        reason = reason or ("" if gpu_count() else "no GPU is visible to this process")
        if reason:
            raise UserError(
                f"videos cannot be decoded on the GPU: {reason}",
                "set DATA.DECODING_DEVICE cpu",
                "DATA.DECODING_DEVICE",
            )
        return torchcodec.ON_GPU
    if reason:
        logger.warning("torchcodec cannot be used, decoding with PyAV instead: %s", reason)
        return "pyav"
    return name


def open_video(
    path: str,
    backend: str = "pyav",
    threads: bool = False,
    max_pixels: int = MAX_PIXELS,
    policy: RetryPolicy = DEFAULT,
    extent: Extent | None = None,
) -> Source:
    """Open a video file at a path or an address; VideoError if it is missing, empty, not a video,
    or if its frames have more than ``max_pixels`` pixels.

    ``threads``: whether the decoder may use several threads; ``policy``: with reads of an
    address, which PyAV decodes whatever the ``backend``; ``extent``: the part of a file that is the
    video, which ``path`` then only names.
    """
    file = None
    try:
        if extent is not None:
            file = open_extent(extent, policy)
        elif is_address(path):
            file = RemoteFile(path, policy=policy)
        size = os.stat(path).st_size if file is None else file.length
    except OSError as error:
        raise VideoError(path, error.strerror or str(error)) from error
    if os.path.isdir(path):
        raise VideoError(path, "is a folder, not a video file")
    if size == 0:
        raise VideoError(path, "the file is empty")
    if backend != "pyav":
        from slowfast.video.backends.torchcodec import ON_GPU, TorchcodecSource

        if backend == ON_GPU and file is not None:
            raise UserError(
                f"{path} lies at an address or in a shard: such videos are decoded by the CPU",
                "set DATA.DECODING_DEVICE cpu",
                "DATA.DECODING_DEVICE",
            )
    if backend != "pyav" and file is None:
        # PyAV takes what torchcodec cannot open or would decode differently; its error messages
        # are also the more precise ones.
        on_gpu = backend == ON_GPU
        with contextlib.suppress(VideoError):
            source = TorchcodecSource(path, threads, max_pixels, "cuda" if on_gpu else "cpu")
            if source.is_upright if on_gpu else source.is_exact:
                return source
    from slowfast.video.backends.pyav import PyAVSource

    return PyAVSource(path, threads, max_pixels, file)


def open_source(
    path: str,
    template: str,
    num_frames: int = 0,
    backend: str = "pyav",
    threads: bool = False,
    max_pixels: int = MAX_PIXELS,
    names: Sequence[str] = (),
    policy: RetryPolicy = DEFAULT,
    extent: Extent | None = None,
) -> Source:
    """Open a frame folder (images ``names``, else those named by ``template``, counted if
    ``num_frames`` is 0), an image, which is a video of one frame, or a video file. What has an
    address is a video file."""
    if is_address(path) or extent is not None:
        if names or os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES:
            raise VideoError(path, "images are no videos: they are read from disks only")
        return open_video(path, backend, threads, max_pixels, policy, extent)
    is_folder = os.path.isdir(path)
    is_image = not is_folder and os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES
    if not (is_folder or is_image or names):
        return open_video(path, backend, threads, max_pixels)
    from slowfast.video.backends.frames import FrameFolder, NamedFrames

    if is_image:
        folder, name = os.path.split(path)
        return NamedFrames(folder or ".", [name], max_pixels=max_pixels)
    if names:
        return NamedFrames(path, names, max_pixels=max_pixels)
    return FrameFolder(path, template, num_frames or None, max_pixels=max_pixels)
