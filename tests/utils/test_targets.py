"""Smoothed targets by hand."""

from __future__ import annotations

import pytest
import torch

from slowfast.utils.targets import smooth_one_hot


def test_by_hand():
    targets = smooth_one_hot(torch.tensor([2, 0]), 4, 0.2)
    assert targets[0].tolist() == pytest.approx([0.05, 0.05, 0.85, 0.05])
    assert targets.sum(1).tolist() == pytest.approx([1, 1])
    assert smooth_one_hot(torch.tensor([1]), 3, 0.0).tolist() == [[0, 1, 0]]
