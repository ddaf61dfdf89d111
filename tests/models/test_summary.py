"""The size of a network against counts by hand."""

from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from slowfast.models.summary import measure_model


class Conv(nn.Module):
    """3 -> 4 channels by a 1x3x3 convolution without border, then a classifier."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 4, (1, 3, 3), bias=False)
        self.fc = nn.Linear(4, 5)
        self.fc.weight.requires_grad_(False)

    def features(self, video):
        return self.conv(video).mean((2, 3, 4))

    def forward(self, video):
        return self.fc(self.features(video))


CONV = 2 * 6 * 6 * 4 * 3 * 9  # frames, rows, columns, outputs, inputs, kernel


def test_counts_by_hand():
    model = Conv().train()
    size = measure_model(model, num_frames=2, crop_size=8)
    assert size.parameters == 4 * 3 * 9 + 4 * 5 + 5 and size.trained == size.parameters - 20
    assert size.gflops * 1e9 == pytest.approx(CONV + 4 * 5, abs=300)  # the mean costs something
    assert size.mega_activations * 1e6 == 4 * 2 * 6 * 6 + 5
    assert model.training and "per view" in str(size)


def test_another_function_is_measured():
    """Without the classifier."""
    model = Conv().eval()
    whole = measure_model(model, 2, 8)
    features = measure_model(model, 2, 8, forward=model.features)
    assert round((whole.gflops - features.gflops) * 1e9) == 4 * 5
    assert features.parameters == whole.parameters and not model.training


def test_fused_attention_is_counted():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, video):
            tokens = (video * self.scale).flatten(2)  # 1 3 N
            return F.scaled_dot_product_attention(tokens, tokens, tokens)

    # 3 queries x 3 keys, each N wide, twice.
    size = measure_model(Attention(), 2, 4)
    assert size.gflops * 1e9 == pytest.approx(2 * 3 * 3 * 32, abs=1)


def test_loggers_are_left_as_they_were():
    logger = logging.getLogger("fvcore")
    level = logger.level
    with pytest.raises(RuntimeError):
        measure_model(Conv(), 2, 1)  # smaller than the kernel
    assert logger.level == level
