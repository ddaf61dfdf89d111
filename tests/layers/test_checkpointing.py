"""Activation checkpointing: how many blocks run twice, with which results."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from slowfast.layers.checkpointing import checkpointed_blocks, keep_products, run_checkpointed
from slowfast.layers.norm import with_synchronised_norm
from slowfast.layers.sub_norm import with_sub_norm
from slowfast.layers.workarounds import with_cpu_workarounds
from slowfast.models.build import build_model
from tests.models.helpers import build


class Counted(nn.Module):
    """A layer that counts its forward passes."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(3, 3), 0

    def forward(self, x: torch.Tensor, offset: float = 0.0) -> torch.Tensor:
        self.calls += 1
        return self.layer(x).tanh() + offset


def counted(count=4):
    torch.manual_seed(0)
    return nn.ModuleList(Counted() for _ in range(count))


@pytest.mark.parametrize(
    "number, calls", [(0, [1, 1, 1, 1]), (2, [2, 2, 1, 1]), (math.inf, [2] * 4)]
)
def test_the_first_blocks_run_again_in_the_backward_pass(number, calls):
    blocks = counted()
    run_checkpointed(blocks, torch.randn(2, 3, requires_grad=True), number).sum().backward()
    assert [block.calls for block in blocks] == calls


def test_nothing_runs_twice_without_gradients():
    blocks = counted()
    with torch.no_grad():
        run_checkpointed(blocks, torch.randn(2, 3), math.inf)
    assert [block.calls for block in blocks] == [1] * 4


def test_results_and_gradients_are_the_same():
    results = []
    for number in (0, 3, math.inf):
        blocks = counted()
        x = torch.linspace(-1, 1, 6).view(2, 3).requires_grad_()
        y = run_checkpointed(blocks, x, number, 0.5)
        y.square().sum().backward()
        results.append([y, x.grad, *(p.grad for p in blocks.parameters())])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_further_arguments_reach_every_block():
    blocks, x = counted(2), torch.zeros(1, 3)
    expected = blocks[1](blocks[0](x, 2.0), 2.0)
    assert torch.equal(run_checkpointed(blocks, x, 1, 2.0), expected)


def test_counts_per_stage():
    assert checkpointed_blocks(3) == (0, 0, 0)
    assert checkpointed_blocks(3, per_stage=[2, 1]) == (2, 1, 0)
    assert checkpointed_blocks(1, per_stage=[2, 1]) == (2,)
    assert checkpointed_blocks(2, every_block=True, per_stage=[1, 1]) == (math.inf, math.inf)


class CountProducts(TorchDispatchMode):
    """Counts matrix products and normalisations."""

    def __init__(self):
        super().__init__()
        self.products = self.norms = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.products += func in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default)
        self.norms += func is torch.ops.aten.native_layer_norm.default
        return func(*args, **(kwargs or {}))


def test_products_may_be_kept():
    torch.manual_seed(0)
    blocks = nn.ModuleList(
        nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU()) for _ in range(3)
    )
    x = torch.randn(4, 8)
    counts, gradients = [], []
    for num, keeps in ((0, False), (3, False), (3, True)):
        for block in blocks:
            block.keeps_products = keeps
        blocks.zero_grad()
        with CountProducts() as count:
            run_checkpointed(blocks, x.clone().requires_grad_(), num).square().sum().backward()
        counts.append((count.products, count.norms))
        gradients.append([parameter.grad.clone() for parameter in blocks.parameters()])
    plain, all_again, kept = counts
    assert plain == (9, 3)  # forward once, backward twice a layer
    assert all_again == (12, 6) and kept == (9, 6)
    for other in gradients[1:]:
        assert all(torch.equal(a, b) for a, b in zip(gradients[0], other, strict=True))


NORMS = {
    "plain": lambda network: network,
    "safe for one clip": with_cpu_workarounds,
    "parts": lambda network: with_sub_norm(network, 2),
    "uneven parts": lambda network: with_sub_norm(network, 3),
    "synchronised": lambda network: with_synchronised_norm(network, on_gpu=False),
}


@pytest.mark.parametrize("norms", NORMS)
@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_know_each_batch_once(norms, keeps, momentum):
    """After two steps, all values and gradients are those of blocks that run once."""
    networks = []
    for number in (0, math.inf):
        torch.manual_seed(0)
        blocks = NORMS[norms](
            nn.ModuleList(
                nn.Sequential(nn.Conv3d(3, 3, 1), nn.BatchNorm3d(3, momentum=momentum), nn.ReLU())
                for _ in range(2)
            )
        )
        if keeps:
            keep_products(blocks)
        for _ in range(2):
            x = torch.randn(4, 3, 2, 4, 4, requires_grad=True)
            run_checkpointed(blocks, x, number).square().mean().backward()
        networks.append(blocks)
    once, again = (dict(blocks.state_dict()) for blocks in networks)
    assert once.keys() == again.keys() and all(torch.equal(once[n], again[n]) for n in once)
    assert max(value for name, value in once.items() if name.endswith("tracked")) == 2
    for one, other in zip(*(blocks.parameters() for blocks in networks), strict=True):
        assert torch.equal(one.grad, other.grad)
    for norm in filter(lambda m: isinstance(m, _BatchNorm), networks[1].modules()):
        assert norm.momentum == momentum  # as before


def test_a_configuration_marks_all_blocks():
    cfg, _ = build("Uniformer", {"MODEL.ACT_CHECKPOINT_KEEPS": "products"})
    assert all(module.keeps_products for module in build_model(cfg).modules())
