"""Convolutions against sums written out and against PyTorch's own form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slowfast.layers import conv
from slowfast.layers.conv import DepthwiseConv3d, PatchConv3d, PointwiseConv3d


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


def with_gradients(layer, forward, x):
    """Result and gradients of the input and of all parameters."""
    y = forward(x)
    torch.manual_seed(1)
    inputs = [x, *layer.parameters()]
    return y, *torch.autograd.grad(y, inputs, torch.randn(y.shape).to(y.dtype))


def assert_plain(layer, x, half_tolerance=2e-2):
    """The layer is PyTorch's convolution, in float32 and under autocast."""
    x.requires_grad_()
    expected = with_gradients(layer, lambda y: nn.Conv3d.forward(layer, y), x)
    for half in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            found = with_gradients(layer, layer, x)
        for ours, plain in zip(found, expected):
            error = (ours.float() - plain).norm() / plain.norm()
            assert error < (half_tolerance if half else 1e-5)


@pytest.mark.parametrize(
    "kernel, stride",
    [
        (3, 1),
        (5, 1),
        ((3, 3, 3), (1, 4, 4)),
        ((3, 3, 3), (2, 2, 2)),
        ((3, 5, 3), (3, 2, 1)),
        ((1, 5, 1), (1, 2, 1)),
        ((2, 3, 3), 1),  # even kernels keep PyTorch's gradients
    ],
)
@pytest.mark.parametrize("channels", [4, 64])
def test_depthwise_gradients(kernel, stride, channels):
    torch.manual_seed(0)
    layer = DepthwiseConv3d(channels, kernel, stride)
    assert_plain(layer, torch.randn(2, channels, 5, 9, 8))


def test_small_runs_keep_their_bits():
    torch.manual_seed(0)
    for layer in (DepthwiseConv3d(32, 3), PointwiseConv3d(8, 32)):
        x = torch.randn(2, layer.in_channels, 2, 4, 4, requires_grad=True)
        expected = with_gradients(layer, lambda y, c=layer: nn.Conv3d.forward(c, y), x)
        for ours, plain in zip(with_gradients(layer, layer, x), expected):
            assert torch.equal(ours, plain)


def test_pointwise_is_a_product():
    torch.manual_seed(0)
    assert_plain(PointwiseConv3d(8, 64), torch.randn(2, 8, 2, 3, 3))


@pytest.mark.parametrize(
    "kernel, stride, padding",
    [((3, 4, 4), (2, 4, 4), (1, 0, 0)), ((1, 2, 2), (1, 2, 2), 0), ((3, 4, 4), (2, 2, 2), 0)],
)
def test_patches_are_a_product(kernel, stride, padding):
    """Also where the clip is no multiple of a patch, and where patches overlap."""
    torch.manual_seed(0)
    layer = PatchConv3d(3, 64, kernel, stride, padding)
    assert_plain(layer, torch.randn(2, 3, 5, 9, 8))


@pytest.mark.parametrize(
    "kernel, stride, options",
    [
        ((1, 3, 3), (1, 1, 1), {}),
        ((1, 3, 3), (1, 2, 2), {"groups": 2}),
        ((1, 3, 3), (1, 2, 2), {"dilation": 2, "bias": True}),
        ((3, 1, 1), (1, 1, 1), {"bias": True}),
        ((5, 1, 1), (2, 1, 1), {}),
        ((1, 1, 1), (1, 2, 2), {"bias": True}),
        ((1, 1, 1), (1, 1, 1), {}),
        ((3, 1, 1), (1, 2, 2), {}),
        ((3, 3, 3), (1, 2, 2), {}),
        ((5, 7, 7), (1, 2, 2), {}),
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("width", [8, 320])
def test_every_form_is_the_convolution(kernel, stride, options, layout, width, monkeypatch):
    """Values and gradients of PyTorch's own convolution, on both sides of the limit of width."""
    monkeypatch.setattr(conv, "_SMALL", 0)
    torch.manual_seed(0)
    channels = width if sum(kernel) < 6 else 8
    layer = conv.conv3d(4, channels, kernel, stride, **options).double()
    x = torch.randn(2, 4, 5, 6, 7, dtype=torch.double).to(memory_format=layout)
    results = []
    for forward in (type(layer).forward, nn.Conv3d.forward):
        video = x.clone(memory_format=torch.preserve_format).requires_grad_()
        y = forward(layer, video)
        weight = torch.linspace(-1, 1, y.numel(), dtype=torch.double).view(y.shape)
        inputs = (video, *layer.parameters())
        results.append((y, *torch.autograd.grad((y * weight).sum(), inputs)))
    for ours, expected in zip(*results):
        assert ours.shape == expected.shape and torch.allclose(ours, expected)


def test_forms():
    """Which convolution gets which form."""
    kinds = {
        (4, 8, (1, 3, 3), 1): conv.FlatConv3d,
        (4, 8, (3, 1, 1), (2, 1, 1)): conv.FlatConv3d,
        (4, 8, 1, (1, 2, 2)): conv.ProjectionConv3d,
        (4, 8, (3, 1, 1), (1, 2, 2)): nn.Conv3d,
        (4, 8, 3, 1): nn.Conv3d,
    }
    for arguments, kind in kinds.items():
        assert type(conv.conv3d(*arguments)) is kind, arguments
    assert type(conv.conv3d(8, 8, 3, 1, groups=8)) is conv.DepthwiseConv3d
