"""The operation counter against counts by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from slowfast.config.defaults import get_cfg
from slowfast.layers.pooling_attention import PoolingAttention, PoolingSpec
from slowfast.models.summary import measure_model

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
    cfg = get_cfg()
    cfg.merge_from_list(["DATA.NUM_FRAMES", FRAMES, "DATA.TRAIN_CROP_SIZE", SIDE])
    return round(measure_model(network, cfg).gflops * 1e9)


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
