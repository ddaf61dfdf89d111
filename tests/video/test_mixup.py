"""Mixup and CutMix: what is drawn, and what it does to frames that are not square."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from slowfast.video.mixup import Mixup, apply_mix, cutmix_box, mix_targets


def test_boxes_by_hand():
    box, lam = cutmix_box(40, 80, 0.75, 20, 40)  # half of each side
    assert box == (10, 30, 20, 60) and lam == 0.75
    box, lam = cutmix_box(40, 80, 0.75, 0, 79)  # clipped at a corner
    assert box == (0, 10, 59, 80) and lam == 1 - 10 * 21 / 3200


def test_draws_of_wide_frames():
    """Boxes lie anywhere inside, and lam is the share that is left of the frame's own."""
    mixup = Mixup(0.0, 1.0, 1.0, 0.5, 0.1, 4)
    rng = np.random.default_rng(0)
    draws = [mixup.draw(20, 60, rng) for _ in range(300)]
    for mix in draws:
        top, bottom, left, right = mix.box
        assert 0 <= top <= bottom <= 20 and 0 <= left <= right <= 60
        assert mix.lam == 1 - (bottom - top) * (right - left) / 1200
    assert max(mix.box[3] for mix in draws) == 60 and min(mix.box[2] for mix in draws) == 0
    assert max(mix.box[3] - mix.box[2] for mix in draws) > 40


def test_how_often_what_is_drawn():
    def kinds(*values: float) -> tuple[float, float]:
        """Shares of batches that are mixed, and of CutMix among them."""
        rng = np.random.default_rng(0)
        draws = [Mixup(*values, smoothing=0.1, classes=4).draw(20, 60, rng) for _ in range(600)]
        mixed = [mix for mix in draws if mix.lam != 1.0 or mix.box]
        boxes = sum(mix.box is not None for mix in mixed)
        return round(len(mixed) / 600, 1), round(boxes / max(len(mixed), 1), 1)

    assert kinds(0.8, 1.0, 1.0, 0.3) == (1.0, 0.3)
    assert kinds(0.8, 1.0, 0.4, 0.5) == (0.4, 0.5)
    assert kinds(0.8, 0.0, 1.0, 0.9) == (1.0, 0.0)
    assert kinds(0.0, 1.0, 1.0, 0.1) == (1.0, 1.0)
    assert kinds(0.8, 1.0, 0.0, 0.5) == (0.0, 0.0)


def test_pixels_and_targets():
    video = torch.stack([torch.zeros(3, 2, 20, 60), torch.ones(3, 2, 20, 60)])
    labels = torch.tensor([0, 2])
    mixup = Mixup(0.0, 1.0, 1.0, 0.5, 0.0, 4)
    mixed, targets = mixup(video, labels, np.random.default_rng(3))
    mix = mixup.draw(20, 60, np.random.default_rng(3))
    assert torch.equal(mixed, apply_mix(video, mix)) and 0.0 < mix.lam < 1.0
    assert 1 - float(mixed[0].mean()) == pytest.approx(mix.lam)
    assert float(mixed[1].mean()) == pytest.approx(mix.lam)
    assert torch.allclose(targets, mix_targets(labels, 4, mix.lam, 0.0))
    assert targets[0].tolist() == pytest.approx([mix.lam, 0.0, 1 - mix.lam, 0.0])
