"""torchcodec (extra ``[torchcodec]``): needs the FFmpeg libraries of the system."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from slowfast.utils.errors import VideoError
from slowfast.video.backends.pyav import PyAVSource
from slowfast.video.backends.streams import choose_stream, open_container
from slowfast.video.source import EXACT_CODECS, MAX_PIXELS, Source, as_it_is, check_pixels

T = TypeVar("T")
ON_GPU = "torchcodec on the GPU"  # the backend with DATA.DECODING_DEVICE cuda

# Pixel formats: without chroma subsampling, and with it.
_FULL_CHROMA = ("gray", "yuv444p", "yuvj444p", "rgb24")
_SUBSAMPLED_8_BIT = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "nv12")
# Containers whose packets PyAV examines: no presentation times, or no index.
_PYAV_CONTAINERS = {"avi", "mpegts", "mpeg", "h264", "hevc", "m4v", "mpegvideo"}


def why_missing() -> str:
    """Why torchcodec cannot be used, in one line; empty if it can."""
    try:
        from torchcodec.decoders import VideoDecoder
    except ImportError:
        return 'not installed; pip install "slowfast[torchcodec]"'
    except (RuntimeError, OSError) as error:
        return _no_ffmpeg(error)
    try:
        VideoDecoder(b"\0")  # not a video: this only tests whether the library can be loaded
    except (RuntimeError, ValueError, OSError) as error:
        if "libtorchcodec" in str(error):
            return _no_ffmpeg(error)
    return ""


def _no_ffmpeg(error: Exception) -> str:
    first = _first_line(error)
    return f"{first} (it needs the system's FFmpeg libraries, e.g. apt install ffmpeg)"


class TorchcodecSource(Source):
    """A video file read through torchcodec in its exact mode.

    ``device`` ``cuda``: decoded by the process's GPU (NVDEC), whose conversion to RGB rounds
    differently; frames come back to the host.
    """

    def __init__(
        self, path: str, threads: bool = False, max_pixels: int = MAX_PIXELS, device: str = "cpu"
    ):
        from torchcodec.decoders import VideoDecoder

        self.path = path
        with open_container(path) as container:
            stream = choose_stream(container, path)
            context, number = stream.codec_context, stream.index
            check_pixels(path, context.width, context.height, max_pixels)
            self.pixels = context.width * context.height
            self._countable = container.format.name not in _PYAV_CONTAINERS
        try:
            self._decoder = VideoDecoder(
                path,
                stream_index=number,
                dimension_order="NHWC",
                num_ffmpeg_threads=0 if threads else 1,
                seek_mode="exact",
                device=device,
            )
        except (RuntimeError, ValueError, OSError, IndexError) as error:
            raise VideoError(path, f"is not a readable video: {_first_line(error)}") from error
        self._threads, self._max_pixels = threads, max_pixels
        self.num_frames = self._decoder.metadata.num_frames or 0
        if self.num_frames == 0:
            raise VideoError(path, "holds no video frames")
        self.fps = float(self._decoder.metadata.average_fps or 30.0)

    @property
    def is_exact(self) -> bool:
        """Whether its frames are bit-identical to those of the default backend.

        Known to differ: packed frames, MPEG-2, more than eight bits, and the last column or row of
        subsampled chroma in frames of odd size. Turned videos are left to PyAV: the angle does not
        say whether they are mirrored, and early releases do not know it. So are containers without
        presentation times or an index, in which frames may be missing.
        """
        metadata = self._decoder.metadata
        odd_size = bool((metadata.width or 0) % 2 or (metadata.height or 0) % 2)
        pixels = getattr(metadata, "pixel_format", None) or ""
        same_pixels = pixels in _FULL_CHROMA or (pixels in _SUBSAMPLED_8_BIT and not odd_size)
        same_codec = metadata.codec in EXACT_CODECS - {"mpeg2video"}
        return self._countable and same_codec and same_pixels and self.is_upright

    @property
    def is_upright(self) -> bool:
        """Whether its frames are known not to be turned."""
        metadata = self._decoder.metadata
        return hasattr(metadata, "rotation") and not metadata.rotation

    def decode(
        self, indices: list[int], work: Callable[[np.ndarray], T] = as_it_is
    ) -> dict[int, T]:
        # All at once where frames are kept, else one by one.
        step = len(indices) if work is as_it_is else 1
        decoded: dict[int, T] = {}
        try:
            for start in range(0, len(indices), step or 1):
                part = indices[start : start + step]
                batch = self._decoder.get_frames_at(part).data.cpu().numpy()
                decoded |= {index: work(frame) for index, frame in zip(part, batch)}
        except (RuntimeError, ValueError):
            # Some streams do not support seeking (raw H.264); PyAV decodes them from the start, or
            # raises an error that names the cause.
            return PyAVSource(self.path, self._threads, self._max_pixels).decode(indices, work)
        return decoded


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
