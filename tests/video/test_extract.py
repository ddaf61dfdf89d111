"""Folders of frames made from videos."""

from __future__ import annotations

import cv2
import numpy as np

from slowfast.video.extract import extract_frames
from slowfast.video.source import open_source, open_video


def test_the_same_frames(video, tmp_path):
    folder = str(tmp_path / "clip")
    result = extract_frames(str(video), folder, quality=100)
    assert result["frames"] == 50 and result["bytes"] > 0
    wanted = [0, 17, 49]
    images = open_source(folder, "{:05d}.jpg", 0, "pyav", False)
    assert images.num_frames == 50
    (made,), (given,) = images.clips([wanted]), open_video(str(video)).clips([wanted])
    near = [np.abs(a.astype(int) - b).mean() for a, b in zip(made, given)]
    far = [np.abs(a.astype(int) - b).mean() for a, b in zip(made, given[1:])]
    assert max(near) < 8 < 20 < min(far)  # JPEG's colour against another frame


def test_smaller_never_larger(video, tmp_path):
    extract_frames(str(video), str(tmp_path / "small"), short_side=32, template="{:06d}.jpg")
    assert cv2.imread(str(tmp_path / "small" / "000001.jpg")).shape == (32, 48, 3)
    extract_frames(str(video), str(tmp_path / "large"), short_side=640)
    assert cv2.imread(str(tmp_path / "large" / "00001.jpg")).shape == (64, 96, 3)


def test_a_broken_video_leaves_no_folder(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    result = extract_frames(str(tmp_path / "bad.mp4"), str(tmp_path / "bad"))
    assert "frames" not in result and result["cause"]
    assert [p.name for p in tmp_path.iterdir()] == ["bad.mp4"]


def test_an_old_folder_is_replaced_as_a_whole(video, tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "09999.jpg").write_text("left from another video")
    extract_frames(str(video), str(folder))
    assert len(list(folder.iterdir())) == 50
