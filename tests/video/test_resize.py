"""Smaller copies of videos: the same frames at the same times."""

from __future__ import annotations

import av
import numpy as np
import pytest

from slowfast.video.resize import resize_video, target_size
from slowfast.video.source import open_video
from slowfast.video.writer import write_mp4
from tests.conftest import noise_clip
from tests.video.test_awkward import write
from tests.video.test_backends import write_with_pts


@pytest.mark.parametrize(
    "size, short, expected",
    [
        ((480, 640), 256, (256, 342)),
        ((1080, 1920), 256, (256, 456)),
        ((100, 60), 256, (100, 60)),
        ((640, 480), 256, (342, 256)),
        ((49, 65), 256, (48, 64)),
    ],
)
def test_sizes(size, short, expected):
    assert target_size(*size, short) == expected


def test_frames_and_times_stay(tmp_path):
    times = [0, 40, 50, 130, 400, 410, 1000]
    write_with_pts(tmp_path / "vfr.mp4", times)
    result = resize_video(str(tmp_path / "vfr.mp4"), str(tmp_path / "out" / "small.mp4"), 24)
    assert result["cause"] == "" and result["frames"] == 7 and result["after"] > 0
    with av.open(str(tmp_path / "out" / "small.mp4")) as made:
        frames = list(made.decode(video=0))
    assert [round(f.time * 1000) for f in frames] == times
    assert (frames[0].height, frames[0].width) == (24, 32)


def test_the_picture_is_the_same(tmp_path):
    clip = noise_clip(6, 96, 128)
    write_mp4(tmp_path / "a.mp4", clip, crf=5)
    resize_video(str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"), 48, crf=5)
    (small,) = open_video(str(tmp_path / "b.mp4")).frames([range(6)])
    expected = clip.reshape(6, 48, 2, 64, 2, 3).mean((2, 4))
    # colour is halved and compressed; another frame is much further away
    assert np.abs(small - expected).mean() < 8 < np.abs(small[::-1] - expected).mean() / 4


def test_what_cannot_be_read_leaves_nothing(tmp_path, video):
    (tmp_path / "text.mp4").write_text("not a video")
    result = resize_video(str(tmp_path / "text.mp4"), str(tmp_path / "o" / "t.mp4"), 32)
    assert "not a readable video" in result["cause"]
    cut = write(tmp_path / "f.mp4", options={"movflags": "faststart"}, g="5")
    cut.write_bytes(cut.read_bytes()[: int(cut.stat().st_size * 0.7)])
    result = resize_video(str(cut), str(tmp_path / "o" / "f.mp4"), 32)
    assert result["cause"] and "after" not in result
    assert not [p for p in tmp_path.rglob("*") if p.parent.name == "o"]


def test_distance_of_keyframes(tmp_path):
    """A still scene, in which the encoder has no other reason for keyframes."""
    write_mp4(tmp_path / "a.mp4", np.repeat(noise_clip(1, 48, 64), 50, 0), gop=250)
    for gop in (8, 16):
        resize_video(str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"), 32, gop=gop)
        with av.open(str(tmp_path / "b.mp4")) as reader:
            keys = [n for n, packet in enumerate(reader.demux(video=0)) if packet.is_keyframe]
        assert keys == list(range(0, 50, gop))


def test_each_side_is_resized_once(tmp_path):
    """Stripes stay as sharp as their mean over pixels; a detour over another size blurs them."""
    clip = np.zeros((4, 96, 128, 3), np.uint8)
    clip[:, :, np.arange(128) % 8 < 4] = 255
    write_mp4(tmp_path / "a.mp4", clip, crf=1)
    resize_video(str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"), 48, crf=1)
    (small,) = open_video(str(tmp_path / "b.mp4")).frames([range(4)])
    expected = clip.reshape(4, 48, 2, 64, 2, 3).mean((2, 4))
    assert np.abs(small - expected).mean() < 4
