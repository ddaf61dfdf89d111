from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from slowfast.layers.safe_conv import SmallMapSafe, with_safe_convolutions


def gradient(conv: nn.Module, clip: torch.Tensor) -> torch.Tensor:
    """Gradient of the weight under autocast, while free memory is full of infinities."""
    with torch.autocast("cpu", torch.bfloat16):
        output = conv(clip)
    assert output.dtype == torch.bfloat16
    junk = [torch.full((size,), float("inf")) for size in (64, 1000, 10**4, 10**5) * 3]
    del junk
    (found,) = torch.autograd.grad(output.float().square().mean(), conv.weight)
    return found.float()


@pytest.mark.parametrize(
    "kernel, size",
    [
        ((3, 1, 1), (2, 3, 3)),
        ((5, 1, 1), (4, 3, 3)),
        ((1, 7, 7), (2, 2, 2)),
        ((3, 3, 3), (2, 2, 2)),
    ],
)
def test_gradients_of_small_maps_are_those_of_float32(kernel, size):
    torch.manual_seed(0)
    plain = nn.Conv3d(16, 16, kernel, padding=[side // 2 for side in kernel], bias=False)
    safe = with_safe_convolutions(copy.deepcopy(plain))
    clip = torch.randn(4, 16, *size)
    output = plain(clip).square().mean()
    (expected,) = torch.autograd.grad(output, plain.weight)
    error = (gradient(safe, clip) - expected).abs().max()
    assert error < 0.05 * expected.abs().max()


def test_only_small_maps_are_computed_otherwise():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Linear(2, 2))
    names = list(network.state_dict())
    other = copy.deepcopy(network)
    with_safe_convolutions(with_safe_convolutions(network))
    assert list(network.state_dict()) == names and isinstance(network[0], nn.Conv2d)
    assert isinstance(network[0], SmallMapSafe) and type(network[2]) is nn.Linear
    x = torch.randn(2, 3, 9, 9)
    assert torch.equal(network[:2](x), other[:2](x))  # float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network[:2](x), other[:2](x))
