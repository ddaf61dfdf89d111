"""Erasing, mixup and normalisation on batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from slowfast.video.device import Normalizer, input_is_bgr
from slowfast.video.erasing import RandomErasing, erase
from slowfast.video.mixup import Mix, Mixup, apply_mix


def test_erasing_cube_with_fresh_noise():
    video = torch.zeros(2, 3, 5, 20, 20)
    boxes = torch.tensor([[[2, 3, 8, 6, 11]], [[0, 0, 0, 0, 0]]])
    erase(video, boxes, "pixel")
    inside = video[0, :, :, 2:10, 3:9]
    assert (inside != 0).all() and inside.std().item() == pytest.approx(1.0, abs=0.1)
    assert not torch.equal(inside[:, 0], inside[:, 1])  # each frame has noise of its own
    outside = video.clone()
    outside[0, :, :, 2:10, 3:9] = 0
    assert (outside == 0).all()
    again = torch.zeros(2, 3, 5, 20, 20)
    erase(again, boxes, "pixel")
    assert torch.equal(video, again)


@pytest.mark.parametrize("mode, values", [("rand", 15), ("const", 1)])
def test_erasing_modes(mode, values):
    video = torch.ones(1, 3, 5, 10, 10)
    erase(video, torch.tensor([[[0, 0, 10, 10, 3]]]), mode)
    assert len(video.unique()) == values


def test_erasing_draws():
    eraser = RandomErasing(prob=0.25)
    rows = np.concatenate([eraser.draw(224, 224, np.random.default_rng(s)) for s in range(2000)])
    erased = rows[rows[:, 2] > 0]
    assert 0.21 < len(erased) / 2000 < 0.29
    shares = erased[:, 2] * erased[:, 3] / 224**2
    assert shares.min() >= 0.015 and shares.max() <= 0.34
    assert (erased[:, 0] + erased[:, 2] <= 224).all()


def test_mixup_by_hand():
    video = torch.stack([torch.full((1, 1, 4, 4), float(v)) for v in (0, 1, 2)])
    mixed = apply_mix(video, Mix(0.25))
    assert mixed[:, 0, 0, 0, 0].tolist() == [1.5, 1.0, 0.5]
    pasted = apply_mix(video, Mix(0.75, (0, 2, 0, 2)))
    assert pasted[0, 0, 0, 0, 0] == 2 and pasted[0, 0, 0, 3, 3] == 0
    assert video[0].sum() == 0  # the input stays


def test_mixup_targets_sum_to_one():
    mixup = Mixup(0.8, 1.0, 1.0, 0.5, 0.1, 7)
    video, labels = torch.rand(4, 3, 2, 8, 8), torch.tensor([0, 3, 5, 6])
    kinds = set()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        mix = mixup.draw(8, 8, rng)
        kinds.add(mix.box is None)
        _, targets = mixup(video, labels, np.random.default_rng(seed))
        assert torch.allclose(targets.sum(1), torch.ones(4))
    assert kinds == {True, False}


def test_normalizer_by_hand():
    video = torch.zeros(1, 3, 1, 1, 2, dtype=torch.uint8)
    video[0, :, 0, 0, 0] = torch.tensor([255, 0, 51])
    normalize = Normalizer((0.5, 0.4, 0.2), (0.25, 0.2, 0.1))
    out = normalize(video, torch.device("cpu"))
    assert out[0, :, 0, 0, 0].tolist() == pytest.approx([2.0, -2.0, 0.0], abs=1e-5)
    bgr = Normalizer((0.5, 0.4, 0.2), (0.25, 0.2, 0.1), bgr=True)(video, torch.device("cpu"))
    assert torch.equal(bgr, out.flip(1))
    assert video[0, 0, 0, 0, 0] == 255


@pytest.mark.parametrize(
    "form, reverse, published_bgr, expected",
    [
        ("auto", False, False, False),
        ("auto", True, False, True),
        ("auto", False, True, True),
        ("auto", True, True, False),
        ("RGB", False, True, False),
        ("BGR", False, False, True),
    ],
)
def test_channel_order(make_cfg, form, reverse, published_bgr, expected):
    cfg = make_cfg({"DATA.INPUT_FORMAT": form, "DATA.REVERSE_INPUT_CHANNEL": reverse})
    assert input_is_bgr(cfg, published_bgr) is expected
