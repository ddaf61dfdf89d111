"""Resizing and boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from slowfast.video import clip_ops
from tests.conftest import noise_clip


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [(20, 30), (64, 48), (33, 97)])
def test_resize_is_the_published_one_to_one_level(size, antialias):
    clip = noise_clip(2, 48, 72)
    exact = F.interpolate(
        torch.from_numpy(clip).permute(0, 3, 1, 2).float(),
        size=size,
        mode="bilinear",
        align_corners=False,
        antialias=antialias,
    ).permute(0, 2, 3, 1)
    ours = clip_ops.resize(clip, *size, antialias)
    assert np.abs(ours - exact.numpy()).max() <= 1.01


def test_uniform_crops_lie_along_the_longer_side():
    def places(height, width):
        return [clip_ops.uniform_crop_box(height, width, 32, which)[:2] for which in range(3)]

    assert places(32, 61) == [(0, 0), (0, 15), (0, 29)]
    assert places(61, 32) == [(0, 0), (15, 0), (29, 0)]
    assert places(41, 61) == [(5, 0), (5, 15), (5, 29)]  # in the middle of the shorter side
    assert places(61, 41) == [(0, 5), (15, 5), (29, 5)]
    assert clip_ops.uniform_crop_box(61, 41, 32, 1)[2:] == (32, 32)


def test_random_boxes_stay_inside_and_vary():
    rng = np.random.default_rng(0)
    boxes = [
        clip_ops.random_resized_box(100, 160, [0.08, 1.0], [0.75, 1.3333], rng) for _ in range(500)
    ]
    for top, left, h, w in boxes:
        assert 0 <= top <= 100 - h and 0 <= left <= 160 - w and h > 0 and w > 0
    shares = [h * w / 16000 for _, _, h, w in boxes]
    assert min(shares) < 0.12 and max(shares) > 0.6


def test_impossible_box_falls_back_to_the_centre():
    rng = np.random.default_rng(0)
    box = clip_ops.random_resized_box(10, 200, [1.0, 1.0], [0.75, 4 / 3], rng)
    assert box == (0, (200 - 13) // 2, 10, 13)


def test_last_offset_occurs():
    rng = np.random.default_rng(0)
    tops = {clip_ops.random_crop_box(10, 10, 8, rng)[0] for _ in range(200)}
    assert tops == {0, 1, 2}


def test_short_side_jitter_is_inclusive():
    rng = np.random.default_rng(0)
    for inverse in (False, True):
        sides = {clip_ops.random_short_side([8, 11], inverse, rng) for _ in range(400)}
        assert sides == {8, 9, 10, 11}


def test_squeeze_without_aspect():
    assert clip_ops.resize_short_side(noise_clip(1, 30, 60), 16, keep_aspect=False).shape[1:3] == (
        16,
        16,
    )


def test_multi_scale_boxes_are_tsns():
    """Sides of the short side times a scale, one step apart at most, at 13 places."""
    rng = np.random.default_rng(0)
    scales = [1.0, 0.875, 0.75, 0.66]
    boxes = [clip_ops.multi_scale_box(100, 160, 88, scales, rng) for _ in range(4000)]
    sides = {100: 0, 88: 1, 75: 2, 66: 3}  # 87 is within two pixels of the crop's 88
    pairs = {(sides[h], sides[w]) for _, _, h, w in boxes}
    assert pairs == {(i, j) for i in range(4) for j in range(4) if abs(i - j) <= 1}
    small = {(top, left) for top, left, h, w in boxes if (h, w) == (66, 66)}
    down, right = (100 - 66) // 4, (160 - 66) // 4
    quarters = [
        (0, 0),
        (0, 4),
        (4, 0),
        (4, 4),
        (2, 2),
        (0, 2),
        (4, 2),
        (2, 0),
        (2, 4),
        (1, 1),
        (3, 1),
        (1, 3),
        (3, 3),
    ]
    assert small == {(down * a, right * b) for a, b in quarters}
    assert all(t + h <= 100 and f + w <= 160 for t, f, h, w in boxes)


def test_multi_scale_boxes_of_frames_smaller_than_the_crop():
    rng = np.random.default_rng(0)
    top, left, h, w = clip_ops.multi_scale_box(87, 87, 88, [1.0], rng)
    assert (top, left, h, w) == (0, 0, 87, 87)
