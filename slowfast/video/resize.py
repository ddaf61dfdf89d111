"""Re-encoding a video with a smaller short side: the same frames at the same times, no audio."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import av
import numpy as np

from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.files import make_dirs, write_atomic
from slowfast.video.backends.rgb import RgbConverter
from slowfast.video.backends.streams import choose_stream, open_container, packets
from slowfast.video.source import open_video

# x264's macroblock tree reads memory that it has not written: each run would give another file.
_SAME_BYTES = "mbtree=0"


def target_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """(height, width), even, with ``short_side``; never larger than the video itself."""
    scale = min(short_side / min(height, width), 1.0)
    return tuple(max(round(side * scale / 2) * 2, 2) for side in (height, width))


def resize_video(
    source: str, target: str, short_side: int, crf: int = 18, gop: int = 16
) -> dict[str, Any]:
    """Write ``source`` to ``target`` as H.264 MP4.

    Returns ``cause`` (of a failure, else empty; with ``again`` if another try may succeed),
    ``frames``, and the file sizes ``before`` and ``after`` in bytes. A keyframe every ``gop``
    frames makes reading single clips cheap. The target is either complete, with as many frames as
    the source, or absent.
    """
    try:
        frames = open_video(source).num_frames
        make_dirs(Path(target).parent)
        write_atomic(target, lambda path: _write(source, path, short_side, crf, gop))
        written = open_video(target).num_frames
        if written != frames:
            os.unlink(target)
            raise VideoError(source, f"{frames} frames announced, {written} can be decoded")
    except VideoError as error:
        return {"cause": " ".join(error.cause.split())}
    except av.error.FFmpegError as error:
        again = {"again": True} if isinstance(error, OSError) else {}
        return {"cause": " ".join(str(error).split()), **again}
    except (UserError, OSError) as error:  # the disk, not the video
        return {"cause": " ".join(str(error).split()), "again": True}
    return {
        "cause": "",
        "frames": frames,
        "before": os.path.getsize(source),
        "after": os.path.getsize(target),
    }


def _write(source: str, target: str, short_side: int, crf: int, gop: int) -> None:
    with open_container(source) as reader, av.open(target, "w", "mp4") as writer:
        stream = choose_stream(reader, source)
        to_rgb = RgbConverter(stream.codec_context.width, stream.codec_context.height)
        output = None
        for frame in (f for packet in packets(reader, stream) for f in packet.decode()):
            image = to_rgb(frame)
            if output is None:
                height, width = target_size(*image.shape[:2], short_side)
                output = writer.add_stream("libx264", rate=stream.average_rate or 25)
                output.height, output.width, output.pix_fmt = height, width, "yuv420p"
                output.codec_context.time_base = stream.time_base
                output.gop_size, output.thread_count = gop, 1
                output.options = {"crf": str(crf), "preset": "medium", "x264-params": _SAME_BYTES}
            small = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            small = small.reformat(width, height, "yuv420p", interpolation="AREA")
            small.pts, small.time_base = frame.pts, stream.time_base
            writer.mux(output.encode(small))
        if output is None:
            raise VideoError(source, "holds no video frames")
        writer.mux(output.encode())
