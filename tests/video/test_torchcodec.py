"""Which files torchcodec decodes itself, and which are left to PyAV."""

from __future__ import annotations

import pytest

from slowfast.video.backends import torchcodec
from slowfast.video.source import open_video
from tests.video.test_awkward import CLIP, ODD, write

pytestmark = pytest.mark.skipif(bool(torchcodec.why_missing()), reason="needs torchcodec")

OWN = {
    "plain.mp4": {},
    "422.mkv": {"pixels": "yuv422p"},
    "444.mp4": {"pixels": "yuv444p"},
    "odd_444.mp4": {"clip": ODD, "pixels": "yuv444p"},
    "grey.mp4": {"pixels": "gray"},
    "full_range.mp4": {"pixels": "yuvj420p"},
    "a.webm": {"codec": "libvpx-vp9"},
}
LEFT = {
    "odd.mkv": {"clip": ODD, "codec": "libvpx-vp9"},
    "odd_width.mkv": {"clip": CLIP[:, :, :63], "codec": "libvpx-vp9"},
    "odd_height.mkv": {"clip": CLIP[:, :47], "codec": "libvpx-vp9"},
    "ten_bit.mp4": {"pixels": "yuv420p10le"},
    "packed.avi": {"codec": "mpeg4"},
    "mpeg4.mp4": {"codec": "mpeg4"},
    "mpeg2.mkv": {"codec": "mpeg2video"},
    "stream.ts": {"container": "mpegts"},
    "raw.h264": {"container": "h264"},
    "b_frames.avi": {},
}


@pytest.mark.parametrize("name", [*OWN, *LEFT])
def test_who_decodes(tmp_path, name):
    path = write(tmp_path / name, **(OWN | LEFT)[name])
    opened = open_video(str(path), "torchcodec")
    assert isinstance(opened, torchcodec.TorchcodecSource) == (name in OWN)
    assert opened.pixels == opened.clips([[0]])[0][0][..., 0].size and opened.fps == 25.0


def test_frames_one_by_one(tmp_path):
    opened = open_video(str(write(tmp_path / "a.mp4")), "torchcodec")
    (whole,), (means,) = opened.clips([[3, 9]]), opened.clips([[3, 9]], lambda frame: frame.mean())
    assert means == [frame.mean() for frame in whole]
