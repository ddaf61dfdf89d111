"""Batch normalisation over parts of a batch."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from slowfast.layers.sub_norm import (
    SubBatchNorm,
    aggregate_statistics,
    match_norm_names,
    with_sub_norm,
)

SHAPES = {
    "1d": (nn.BatchNorm1d, ()),
    "2d": (nn.BatchNorm2d, (4, 5)),
    "3d": (nn.BatchNorm3d, (2, 3, 3)),
}
SHAPES["timm"] = (BatchNormAct2d, (4, 5))


def build(kind, splits):
    torch.manual_seed(0)
    layer, size = SHAPES[kind][0](3), SHAPES[kind][1]
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2), layer.bias.normal_()
    return with_sub_norm(nn.Sequential(copy.deepcopy(layer)), splits), layer, size


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("count", [6, 7])
def test_each_part_is_normalised_alone(kind, count):
    """A batch that does not divide has parts that differ by one clip."""
    network, plain, size = build(kind, 3)
    x = torch.randn(count, 3, *size, requires_grad=True)
    out = network(x)
    parts = [copy.deepcopy(plain) for _ in range(3)]
    expected = torch.empty_like(x)
    for number, part in enumerate(parts):
        expected[number::3] = part(x[number::3])
    assert torch.allclose(out, expected, atol=1e-5)
    weights = torch.randn_like(out)
    ours = torch.autograd.grad((out * weights).sum(), [x, *network.parameters()])
    theirs = torch.autograd.grad((expected * weights).sum(), x)[0]
    assert torch.allclose(ours[0], theirs, atol=1e-4)
    means = torch.cat([part.running_mean for part in parts])
    assert torch.allclose(network[0].split_bn.running_mean, means, atol=1e-6)


def test_aggregated_statistics_are_those_of_the_batch():
    """Parts of equal size with momentum 1: the population statistics of all clips."""
    network = with_sub_norm(nn.Sequential(nn.BatchNorm1d(2, momentum=1.0)), 2)
    x = torch.tensor([[0.0, 1], [4, 1], [2, 3], [6, 7]])
    network(x)
    aggregate_statistics(network)
    # parts {0, 2} and {4, 6} of the first channel: means 1 and 5, unbiased variances 2 and 2
    assert network[0].bn.running_mean.tolist() == [3.0, 3.0]
    assert network[0].bn.running_var.tolist() == [2.0 + 4.0, (2 + 18) / 2 + 1.0]
    network.eval()
    assert torch.allclose(network(x)[:, 0], (x[:, 0] - 3) / (6 + 1e-5) ** 0.5)


def test_frozen_layers_use_the_aggregated_statistics():
    network, plain, size = build("3d", 2)
    x = torch.randn(4, 3, *size)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    assert torch.allclose(network(x), plain.eval()(x), atol=1e-6)
    aggregate_statistics(network)
    assert torch.allclose(network(x), plain(x), atol=1e-6)


def test_parameters_and_names_stay():
    layer = nn.BatchNorm3d(4)
    network = with_sub_norm(nn.Sequential(layer), 2)
    assert network[0].weight is layer.weight and network[0].bias is layer.bias
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes == {
        "0.weight": (4,),
        "0.bias": (4,),
        "0.bn.running_mean": (4,),
        "0.bn.running_var": (4,),
        "0.bn.num_batches_tracked": (),
        "0.split_bn.running_mean": (8,),
        "0.split_bn.running_var": (8,),
        "0.split_bn.num_batches_tracked": (),
    }
    assert isinstance(network[0], SubBatchNorm)


def test_statistics_travel_between_plain_and_divided_layers():
    network, plain, size = build("3d", 2)
    network(torch.randn(4, 3, *size))
    aggregate_statistics(network)
    target = nn.Sequential(copy.deepcopy(plain))
    target.load_state_dict(match_norm_names(network.state_dict(), target))
    x = torch.randn(4, 3, *size)
    assert torch.allclose(target.eval()(x), network.eval()(x), atol=1e-6)
    other, _, _ = build("3d", 4)
    other.load_state_dict(match_norm_names(network.state_dict(), other))
    same = match_norm_names(other.state_dict(), other)
    assert list(same) == list(other.state_dict())
    assert torch.allclose(other.eval()(x), network(x), atol=1e-6)
    assert torch.equal(other[0].split_bn.running_var, target[0].running_var.repeat(4))
    unrelated = {"0.weight": torch.ones(1)}
    assert match_norm_names(unrelated, nn.Linear(1, 1)) == unrelated
