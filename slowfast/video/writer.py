"""Writing clips as H.264 MP4 through PyAV."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_mp4(
    path: str | Path,
    frames: Iterable[np.ndarray],
    fps: float = 12,
    *,
    crf: int = 26,
    gop: int = 12,
    preset: str = "veryfast",
) -> None:
    """Write uint8 RGB ``frames`` (``T H W 3``, even H and W) as H.264, yuv420p.

    ``frames`` may be an iterator, which is written as it goes. Encodes with one thread, so that the
    same frames give the same file on any machine.
    """
    frames = iter(frames)
    first = next(frames)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.gop_size = gop
        stream.options = {"crf": str(crf), "preset": preset}
        for image in itertools.chain([first], frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
