"""Parameters and multiply-adds of SlowFast, ResNet and X3D are those of the published networks.

fvcore has to compute what it counts. Here the same rules are applied to tensors without content,
and compared with fvcore where computing is cheap.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from slowfast.models.create import model_variants
from slowfast.models.summary import measure_model

aten = torch.ops.aten


class Counter(TorchDispatchMode):
    """Multiply-adds as fvcore counts them: convolutions, products, and two for each number that is
    normalised in evaluation."""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.total += self._cost(function, args, result)
        return result

    def _cost(self, function, args, result):
        packet = function.overloadpacket
        if packet is aten.convolution:
            return result.numel() * math.prod(args[1].shape[1:])
        if packet in (aten.native_batch_norm, aten._native_batch_norm_legit_no_training):
            return 2 * args[0].numel()
        if packet is aten.addmm:
            return args[1].shape[0] * math.prod(args[2].shape)
        if packet is aten.mm:
            return args[0].shape[0] * math.prod(args[1].shape)
        if packet is aten.bmm:
            return math.prod(args[0].shape) * args[1].shape[2]
        return 0


def network(name, **arguments):
    variant = model_variants()[name]
    with torch.device("meta"):
        return variant.model(**{**variant.arguments, **arguments}).eval()


def multiply_adds(model, frames, crop):
    with torch.no_grad(), Counter() as counter:
        model(torch.zeros(1, 3, frames, crop, crop, device="meta"))
    return counter.total / 1e9


# variant -> M parameters, frames, {crop: GFLOPs}, as fvcore counts the published networks.
PUBLISHED = {
    "slowfast_4x16_r50": (34.48, 32, {224: 27.82, 256: 36.34}),
    "slowfast_8x8_r50": (34.57, 32, {224: 50.58, 256: 66.07}),
    "slow_r50": (32.45, 8, {224: 41.92, 256: 54.75}),
    "slow_4x16_r50": (32.45, 4, {224: 20.96, 256: 27.38}),
    "i3d_r50": (28.04, 8, {224: 28.54, 256: 37.28}),
    "i3d_nln_r50": (35.40, 8, {224: 36.68, 256: 49.10}),
    "c2d_r50": (24.33, 8, {224: 19.62, 256: 25.63}),
    "x3d_xs": (3.79, 4, {160: 0.63, 182: 0.87}),
    "x3d_s": (3.79, 13, {160: 2.03, 182: 2.82}),
    "x3d_m": (3.79, 16, {224: 4.90, 256: 6.40}),
    "x3d_l": (6.15, 16, {312: 18.93, 356: 25.53}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_size(name):
    millions, frames, costs = PUBLISHED[name]
    model = network(name)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
    for crop, gflops in costs.items():
        assert multiply_adds(model, frames, crop) == pytest.approx(gflops, rel=0.01), crop


@pytest.mark.parametrize("name", ["x3d_xs", "c2d_r50", "i3d_nln_r50"])
def test_fvcore_counts_the_same(name):
    """Of small clips."""
    variant = model_variants()[name]
    size = measure_model(variant.model(**variant.arguments), 4, 64)
    assert multiply_adds(network(name), 4, 64) == pytest.approx(size.gflops, rel=0.005)
