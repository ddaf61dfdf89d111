"""The size of a network against counts by hand."""

from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from slowfast.layers.pooling_attention import PoolingAttention, PoolingSpec
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


def test_loggers_are_left_as_they_were():
    logger = logging.getLogger("fvcore")
    level = logger.level
    with pytest.raises(RuntimeError):
        measure_model(Conv(), 2, 1)  # smaller than the kernel
    assert logger.level == level


FRAMES, SIDE = 2, 4
TOKENS = FRAMES * SIDE**2


class OverVideo(nn.Module):
    """A layer over the pixels of a clip as tokens ``1 N 3``; one parameter, so that it has a device."""

    def __init__(self, compute):
        super().__init__()
        self.compute, self.weight = compute, nn.Parameter(torch.zeros(1))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.compute(video.flatten(2).transpose(1, 2))


def multiply_adds(network):
    return round(measure_model(network, FRAMES, SIDE).gflops * 1e9)


def test_attention_is_two_products():
    network = OverVideo(lambda x: F.scaled_dot_product_attention(x, x[:, :8], x[:, :8]))
    assert multiply_adds(network) == TOKENS * 8 * (3 + 3)


def test_channels_of_relative_positions_are_not_counted():
    """As published: additions to the scores are no multiplications."""

    def attend(x):
        wide = torch.cat([x, x], dim=-1)
        return F.scaled_dot_product_attention(wide, wide, F.pad(x, (0, 3)))[..., :3]

    assert multiply_adds(OverVideo(attend)) == TOKENS**2 * (3 + 3)


@pytest.mark.parametrize("relative", [False, True])
def test_pooling_attention(relative):
    """Projections and attention, and with relative positions one product per query and axis."""
    grid = (FRAMES, SIDE, SIDE)
    spec = PoolingSpec(
        3, 3, 1, grid, class_token=False, rel_pos_spatial=relative, rel_pos_temporal=relative
    )
    layer = PoolingAttention(spec)
    network = OverVideo(lambda x: layer(x, grid)[0])
    network.layer = layer
    expected = TOKENS * (3 * 9 + 3 * 3) + TOKENS**2 * 6
    expected += TOKENS * 3 * sum(grid) if relative else 0
    assert multiply_adds(network) == expected
