"""Decoded frames to RGB, pixel for pixel as the ``ffmpeg`` program converts them."""

from __future__ import annotations

import struct

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

# Formats that the library's direct conversion turns into the same pixels; its graph of filters, as
# the program builds it, is right for all, and takes 0.3 ms to set up.
_DIRECT = {"yuv420p", "yuvj420p"}
_ONE = 1 << 16  # display matrices hold numbers in 16.16 fixed point


class RgbConverter:
    """Turns frames of a stream into arrays ``H W 3`` uint8, all of the size ``width height``.

    Colour matrix and range are those that the frame names (bt601, limited, if it names none),
    chroma is interpolated bicubically, and interlaced frames are converted as they are. Alpha is
    dropped, pixels that are not square stay as they are stored. Frames of another size, as in
    streams that were joined, are resized to this one. Then the display matrix is applied: turns by
    multiples of 90 degrees and mirroring.
    """

    def __init__(self, width: int, height: int):
        self.size = width, height
        self._direct = VideoReformatter()
        self._graph: av.filter.Graph | None = None
        self._graph_for: tuple[object, ...] = ()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """The frame as it is displayed, ``H W 3``."""
        same_size = (frame.width, frame.height) == self.size
        if same_size and frame.format.name in _DIRECT and not frame.interlaced_frame:
            rgb = self._direct.reformat(frame, format="rgb24")
        else:
            rgb = self._filtered(frame)
        matrix = frame.side_data.get(Type.DISPLAYMATRIX)
        image = rgb.to_ndarray()
        return image if matrix is None else displayed(image, struct.unpack("<9i", bytes(matrix)))

    def _filtered(self, frame: av.VideoFrame) -> av.VideoFrame:
        form = frame.format.name, frame.width, frame.height, frame.colorspace, frame.color_range
        if form != self._graph_for:
            self._graph, self._graph_for = self._build(frame), form
        self._graph.push(frame)
        return self._graph.pull()

    def _build(self, frame: av.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        width, height = self.size
        scale = graph.add("scale", f"{width}:{height}:flags=bicubic")
        form = graph.add("format", "pix_fmts=rgb24")
        sink = graph.add("buffersink")
        source.link_to(scale)
        scale.link_to(form)
        form.link_to(sink)
        graph.configure()
        return graph


def displayed(image: np.ndarray, matrix: tuple[int, ...]) -> np.ndarray:
    """The image ``H W 3`` turned and mirrored by a display matrix, nine numbers in rows.

    Matrices that do not map rows and columns to rows and columns change nothing.
    """
    a, b, _, c, d, *_ = (_sign(value) for value in matrix)
    if (a, d) != (0, 0) and (b, c) == (0, 0):
        image = image[:: d or 1, :: a or 1]
    elif (b, c) != (0, 0) and (a, d) == (0, 0):
        # x and y change places; then each axis runs forwards or backwards.
        image = image.swapaxes(0, 1)[:: b or 1, :: c or 1]
    return np.ascontiguousarray(image)


def _sign(value: int) -> int:
    """-1, 0 or 1; values that are almost zero count as zero."""
    return 0 if abs(value) < _ONE // 64 else (1 if value > 0 else -1)
