"""torchcodec (extra ``[torchcodec]``): needs the FFmpeg libraries of the system."""

from __future__ import annotations

import numpy as np

from slowfast.utils.errors import VideoError
from slowfast.video.backends.pyav import PyAVSource
from slowfast.video.source import EXACT_CODECS, Source

_WHOLE_COLOUR = ("gray", "yuv444p", "yuvj444p", "rgb24")
_EIGHT_BIT = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "nv12")


def why_missing() -> str:
    """Empty if torchcodec can be used, else the reason in one line."""
    try:
        from torchcodec.decoders import VideoDecoder
    except ImportError:
        return 'not installed; pip install "slowfast[torchcodec]"'
    except (RuntimeError, OSError) as error:
        return _no_ffmpeg(error)
    try:
        VideoDecoder(b"\0")  # no video; what matters is whether its library can be loaded
    except (RuntimeError, ValueError, OSError) as error:
        if "libtorchcodec" in str(error):
            return _no_ffmpeg(error)
    return ""


def _no_ffmpeg(error: Exception) -> str:
    first = _first_line(error)
    return f"{first} (it needs the system's FFmpeg libraries, e.g. apt install ffmpeg)"


class TorchcodecSource(Source):
    """A video file read through torchcodec in its exact mode."""

    def __init__(self, path: str, threads: bool = False):
        from torchcodec.decoders import VideoDecoder

        self.path = path
        try:
            self._decoder = VideoDecoder(
                path,
                dimension_order="NHWC",
                num_ffmpeg_threads=0 if threads else 1,
                seek_mode="exact",
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise VideoError(path, f"is not a readable video: {_first_line(error)}") from error
        self._threads = threads
        self.num_frames = self._decoder.metadata.num_frames or 0
        if self.num_frames == 0:
            raise VideoError(path, "holds no video frames")
        self.fps = float(self._decoder.metadata.average_fps or 30.0)

    @property
    def is_exact(self) -> bool:
        """Whether its frames are, to the last bit, those of the default backend.

        Seen to differ: packed frames, MPEG-2, more than eight bits, and the last column or row of
        subsampled colour in frames of odd size. Releases that do not tell of rotation ignore it.
        """
        facts = self._decoder.metadata
        odd = bool((facts.width or 0) % 2 or (facts.height or 0) % 2)
        pixels = getattr(facts, "pixel_format", None) or ""
        known = pixels in _WHOLE_COLOUR or (pixels in _EIGHT_BIT and not odd)
        codec = facts.codec in EXACT_CODECS - {"mpeg2video"}
        return codec and known and hasattr(facts, "rotation")

    def decode(self, wanted: list[int]) -> dict[int, np.ndarray]:
        try:
            batch = self._decoder.get_frames_at(wanted).data.numpy()
        except (RuntimeError, ValueError):
            # Some streams cannot be seeked in (raw H.264, MPEG-TS); PyAV reads them from the
            # start, or knows what is wrong.
            return PyAVSource(self.path, self._threads).decode(wanted)
        return dict(zip(wanted, batch))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
