"""torchcodec (extra ``[torchcodec]``): needs the FFmpeg libraries of the system."""

from __future__ import annotations

import numpy as np

from slowfast.utils.errors import VideoError
from slowfast.video.source import Source


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
        self.codec = self._decoder.metadata.codec or ""
        self.num_frames = self._decoder.metadata.num_frames or 0
        if self.num_frames == 0:
            raise VideoError(path, "holds no video frames")
        self.fps = float(self._decoder.metadata.average_fps or 30.0)

    def decode(self, wanted: list[int]) -> dict[int, np.ndarray]:
        try:
            batch = self._decoder.get_frames_at(wanted).data.numpy()
        except (RuntimeError, ValueError) as error:
            raise VideoError(self.path, f"decoding failed: {_first_line(error)}") from error
        return dict(zip(wanted, batch))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
