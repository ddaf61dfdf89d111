"""Large frames: bounded by DATA.MAX_PIXELS, and cropped one by one with the same result."""

from __future__ import annotations

import weakref

import cv2
import numpy as np
import pytest
import torch

from slowfast.datasets import clip_reader
from slowfast.datasets.clip_reader import ClipReader
from slowfast.datasets.lists import Item
from slowfast.utils.errors import VideoError
from slowfast.video.backends import pyav
from slowfast.video.backends.pyav import PyAVSource
from slowfast.video.source import open_source, open_video

RESIZED = {"DATA.TRAIN_JITTER_SCALES_RELATIVE": "[0.2, 1.0]"}
AUGMENTED = RESIZED | {
    "AUG.ENABLE": True,
    "AUG.AA_TYPE": "rand-m7-n4-mstd0.5-inc1",
    "AUG.NUM_SAMPLE": 2,
    "AUG.RE_PROB": 1.0,
}
MULTI_SCALE = {"DATA.TRAIN_MULTI_SCALE_CROP": "[1, 0.8]"}


@pytest.mark.parametrize(
    "split, keys",
    [
        ("train", {}),
        ("train", RESIZED),
        ("train", AUGMENTED),
        ("train", MULTI_SCALE | {"DATA.ANTIALIAS": True}),
        ("val", {}),
        ("test", {}),
        ("test", {"DATA.ANTIALIAS": True}),
    ],
)
def test_frame_by_frame_gives_the_same_clip(make_cfg, video, monkeypatch, split, keys):
    item = Item(str(video), 0, 0, 1)
    alive, most = [], []
    convert = PyAVSource._convert

    def watched(self, frame):
        image = convert(self, frame)
        alive.append(weakref.ref(image))
        most.append(sum(reference() is not None for reference in alive))
        return image

    monkeypatch.setattr(PyAVSource, "_convert", watched)
    whole = [ClipReader(make_cfg(keys), split).read(item, epoch, 3) for epoch in (0, 1)]
    assert max(most) > 2
    alive.clear(), most.clear()
    monkeypatch.setattr(clip_reader, "_LARGE_CLIP", 0)
    single = [ClipReader(make_cfg(keys), split).read(item, epoch, 3) for epoch in (0, 1)]
    assert max(most) <= 2  # the one before may still be bound to a name
    for a, b in zip(whole, single):
        assert a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def test_whole_clips_where_frames_depend_on_each_other(make_cfg, video, monkeypatch):
    """A moving crop and transforms of whole clips get all frames, however large."""
    moving = RESIZED | {"DATA.TRAIN_JITTER_MOTION_SHIFT": True}
    backwards = {"DATA.TRANSFORMS_BEFORE": "['reverse_time:prob=1.0']"}
    for keys in (moving, backwards):
        reader = ClipReader(make_cfg(keys), "train")
        whole = reader.read(Item(str(video), 0, 0, 1), 0, 3)
        with monkeypatch.context() as patch:
            patch.setattr(clip_reader, "_LARGE_CLIP", 0)
            again = reader.read(Item(str(video), 0, 0, 1), 0, 3)
        assert torch.equal(whole["video"], again["video"])


def test_frames_are_bounded(make_cfg, video, tmp_path):
    limit = 96 * 64
    item = Item(str(video), 0, 0, 1)
    ClipReader(make_cfg({"DATA.MAX_PIXELS": limit}), "train").read(item, 0, 0)
    cause = r"clip\.mp4: frames of 96x64 pixels, more than DATA.MAX_PIXELS \(6143\)"
    for split in ("train", "val", "test"):
        with pytest.raises(VideoError, match=cause):
            ClipReader(make_cfg({"DATA.MAX_PIXELS": limit - 1}), split).read(item, 0, 0)
    folder = tmp_path / "v"
    folder.mkdir()
    cv2.imwrite(str(folder / "00001.jpg"), np.zeros((64, 96, 3), np.uint8))
    assert open_source(str(folder), "{:05d}.jpg", max_pixels=limit).pixels == limit
    with pytest.raises(VideoError, match=r"00001\.jpg: frames of 96x64 .*DATA.MAX_PIXELS"):
        open_source(str(folder), "{:05d}.jpg", max_pixels=limit - 1).clips([[0]])


@pytest.mark.parametrize("padding", [0, -100 * 100])
def test_frames_larger_than_the_container_says(video, monkeypatch, padding):
    """Refused when they are decoded; by the decoder itself where they are much larger."""
    opened = open_video(str(video))
    opened._max_pixels = 96 * 64 - 1  # as if the head of the file had said less
    monkeypatch.setattr(pyav, "_PADDING", padding)
    opened._open()
    with pytest.raises(VideoError, match="(more|larger) than DATA.MAX_PIXELS"):
        opened.clips([[0]])
