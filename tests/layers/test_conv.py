"""The depthwise convolution against sums written out."""

from __future__ import annotations

import torch

from slowfast.layers.conv import DepthwiseConv3d


def test_each_channel_by_itself():
    torch.manual_seed(0)
    layer = DepthwiseConv3d(3, 3)
    x = torch.randn(1, 3, 2, 4, 4)
    y = layer(x)
    assert y.shape == x.shape
    t, h, w = 1, 2, 3  # a position at two borders
    for channel in range(3):
        total = layer.bias[channel]
        for dt in (-1, 0, 1):
            for dh in (-1, 0, 1):
                for dw in (-1, 0, 1):
                    if t + dt < 2 and h + dh < 4 and w + dw < 4:
                        weight = layer.weight[channel, 0, dt + 1, dh + 1, dw + 1]
                        total = total + weight * x[0, channel, t + dt, h + dh, w + dw]
        assert torch.allclose(y[0, channel, t, h, w], total, atol=1e-6)


def test_cpu_autocast_does_not_reach_it():
    layer = DepthwiseConv3d(2, 5)
    x = torch.randn(1, 2, 3, 5, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x.bfloat16()).dtype == torch.float32
        assert torch.equal(layer(x), layer.float()(x))
