"""Which side is up, and which stream is read, without a program to compare with."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from av.stream import Disposition

from slowfast.utils.errors import VideoError
from slowfast.video.backends.rgb import displayed
from slowfast.video.backends.streams import choose_stream

IMAGE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
ONE = 1 << 16


@pytest.mark.parametrize(
    "a, b, c, d, expected",
    [
        (1, 0, 0, 1, IMAGE),
        (-1, 0, 0, 1, IMAGE[:, ::-1]),
        (1, 0, 0, -1, IMAGE[::-1]),
        (-1, 0, 0, -1, IMAGE[::-1, ::-1]),
        (0, 1, -1, 0, np.rot90(IMAGE, -1)),  # clockwise, as telephones write it
        (0, -1, 1, 0, np.rot90(IMAGE, 1)),
        (0, 1, 1, 0, IMAGE.swapaxes(0, 1)),
        (0, -1, -1, 0, np.rot90(IMAGE, 2).swapaxes(0, 1)),
        (0.7, 0.7, -0.7, 0.7, IMAGE),  # 45 degrees: left as it is
    ],
)
def test_display_matrices(a, b, c, d, expected):
    matrix = tuple(int(v * ONE) for v in (a, b, 0, c, d, 0)) + (0, 0, 1 << 30)
    assert np.array_equal(displayed(IMAGE, matrix), expected)


def stream(width, height, *marks, known=True):
    context = SimpleNamespace(width=width, height=height) if known else None
    return SimpleNamespace(disposition=sum(marks, Disposition(0)), codec_context=context)


def chosen(*streams) -> int:
    container = SimpleNamespace(streams=SimpleNamespace(video=list(streams)))
    return streams.index(choose_stream(container, "a.mkv"))


def test_the_default_stream_is_read():
    default, cover = Disposition.default, Disposition.attached_pic
    assert chosen(stream(64, 48), stream(96, 80)) == 1
    assert chosen(stream(96, 80), stream(64, 48, default)) == 1
    assert chosen(stream(64, 48, default), stream(96, 80, default)) == 1
    assert chosen(stream(64, 48), stream(64, 48)) == 0
    assert chosen(stream(4000, 4000), stream(64, 48, default)) == 0  # the program's own limit
    assert chosen(stream(900, 900, cover, default), stream(64, 48)) == 1
    assert chosen(stream(900, 900, known=False), stream(64, 48)) == 1
    with pytest.raises(VideoError, match="only a cover picture"):
        chosen(stream(900, 900, cover))
    with pytest.raises(VideoError, match="known codec"):
        chosen(stream(0, 0, known=False))
    with pytest.raises(VideoError, match="holds no video stream$"):
        chosen()
