"""Residual blocks and pathways against hand-written computations."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from slowfast.layers.residual import (
    BasicBranch,
    BottleneckBranch,
    Pathways,
    ResBlock,
    init_convolutions,
    run_convolutions,
)


def fill(module: nn.Module, seed: int = 0) -> nn.Module:
    """``module`` in evaluation with statistics and weights that are not those of the start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return module.eval()


def normalised(x: torch.Tensor, norm: nn.BatchNorm3d) -> torch.Tensor:
    shape = (1, -1, 1, 1, 1)
    mean, variance = norm.running_mean.view(shape), norm.running_var.view(shape)
    x = (x - mean) / (variance + norm.eps).sqrt()
    return x * norm.weight.view(shape) + norm.bias.view(shape)


@torch.no_grad()
def test_bottleneck_by_hand():
    branch = fill(BottleneckBranch(4, 6, 4, temporal_kernel=3, stride=2, groups=2, dilation=2))
    x = torch.randn(2, 4, 3, 8, 8)
    y = F.relu(normalised(F.conv3d(x, branch.a.weight, padding=(1, 0, 0)), branch.a_bn))
    spatial = {"stride": (1, 2, 2), "padding": (0, 2, 2), "dilation": (1, 2, 2), "groups": 2}
    y = F.relu(normalised(F.conv3d(y, branch.b.weight, **spatial), branch.b_bn))
    y = normalised(F.conv3d(y, branch.c.weight), branch.c_bn)
    assert branch(x).shape == (2, 6, 3, 4, 4)
    assert torch.allclose(branch(x), y, atol=1e-4)


def test_place_of_the_stride():
    first = BottleneckBranch(4, 4, 4, temporal_kernel=1, stride=2, stride_1x1=True)
    other = BottleneckBranch(4, 4, 4, temporal_kernel=1, stride=2)
    assert (first.a.stride[1], first.b.stride[1]) == (2, 1)
    assert (other.a.stride[1], other.b.stride[1]) == (1, 2)


@torch.no_grad()
def test_basic_by_hand():
    branch = fill(BasicBranch(3, 5, temporal_kernel=3, stride=2))
    x = torch.randn(2, 3, 4, 6, 6)
    y = F.conv3d(x, branch.a.weight, stride=(1, 2, 2), padding=1)
    y = F.relu(normalised(y, branch.a_bn))
    y = normalised(F.conv3d(y, branch.b.weight, padding=(0, 1, 1)), branch.b_bn)
    assert torch.allclose(branch(x), y, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("channels, stride", [(4, 1), (6, 1), (4, 2)])
def test_shortcut(channels, stride):
    """A convolution where the width or the grid changes, else the input itself."""
    block = fill(
        ResBlock(
            4, channels, BasicBranch(4, channels, temporal_kernel=1, stride=stride), stride=stride
        )
    )
    x = torch.randn(2, 4, 2, 4, 4)
    shortcut = x
    if (channels, stride) != (4, 1):
        shortcut = F.conv3d(x, block.branch1.weight, stride=(1, stride, stride))
        shortcut = normalised(shortcut, block.branch1_bn)
    assert torch.allclose(block(x), F.relu(shortcut + block.branch2(x)), atol=1e-4)


def test_drop_connect_leaves_branches_out():
    """In training a clip's branch is kept with the rate's complement and then scaled."""
    branch = BasicBranch(2, 2, temporal_kernel=1, stride=1)
    block = ResBlock(2, 2, branch, stride=1, drop_connect=0.5)
    nn.init.constant_(branch.b_bn.bias, 1.0), nn.init.zeros_(branch.b_bn.weight)  # branch = 1
    x = torch.zeros(200, 2, 1, 2, 2)
    torch.manual_seed(0)
    assert set(block.train()(x).unique().tolist()) == {0.0, 2.0}
    assert block.eval()(x).unique().tolist() == [1.0]


def test_relu_is_between_convolutions_only():
    pairs = [(nn.Identity(), nn.Identity())] * 3
    x = -torch.ones(1, 1, 1, 1, 1)
    assert run_convolutions(x.clone(), pairs[:1]).item() == -1
    assert run_convolutions(x.clone(), pairs).item() == 0


def test_blocks_start_as_their_shortcut():
    branch = BasicBranch(2, 2, temporal_kernel=1, stride=1)
    branch.start_at_zero(norm=True, conv=False)
    assert not branch.b_bn.weight.any() and branch.a_bn.weight.all() and branch.b.weight.any()
    branch.start_at_zero(norm=False, conv=True)
    assert not branch.b.weight.any() and branch.a.weight.any()


def test_pathways_run_side_by_side():
    pathways = Pathways([{"stem": nn.Identity()}, {"res0": nn.ReLU(), "res1": nn.Identity()}])
    assert [name for name, _ in pathways.named_children()] == [
        "pathway0_stem",
        "pathway1_res0",
        "pathway1_res1",
    ]
    slow, fast = pathways([torch.tensor(-1.0), torch.tensor(-2.0)])
    assert (slow.item(), fast.item()) == (-1.0, 0.0)
    with pytest.raises(ValueError):
        pathways([torch.zeros(1)])


def test_checkpointed_blocks_compute_the_same():
    torch.manual_seed(0)
    blocks = [
        ResBlock(2, 2, BasicBranch(2, 2, temporal_kernel=1, stride=1), stride=1).eval()
        for _ in range(2)
    ]
    named = {f"res{i}": block for i, block in enumerate(blocks)}
    x = torch.randn(2, 2, 1, 4, 4, requires_grad=True)
    (plain,) = Pathways([named])([x])
    (stored,) = Pathways([named], num_checkpointed=math.inf)([x])
    gradients = [torch.autograd.grad(y.sum(), x)[0] for y in (plain, stored)]
    assert torch.equal(plain, stored) and torch.equal(*gradients)


def test_initial_deviation():
    """Variance 2 / (outputs x kernel), also of depthwise convolutions."""
    layers = nn.Sequential(nn.Conv3d(8, 256, 3), nn.Conv3d(512, 512, 3, groups=512))
    torch.manual_seed(0)
    init_convolutions(layers)
    for layer in layers:
        expected = (2 / (layer.out_channels * 27)) ** 0.5
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.05)
        assert not layer.bias.any()
