"""Reversible blocks: gradients of the unreversed computation, and what is kept for them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slowfast.layers.pooling_attention import PoolingSpec
from slowfast.layers.reversible import (
    ReversibleBlock,
    StageTransition,
    TwoStreamFusion,
    run_reversible,
)
from slowfast.utils.errors import UserError

GRID = (2, 4, 4)


def spec(dim=16, dim_out=16, **options):
    options = {"class_token": False, "widen_in_attention": True, "mlp_ratio": 2.0} | options
    sizes = {"kernel_kv": (3, 3, 3), "stride_kv": (1, 2, 2)} | options
    return PoolingSpec(dim, dim_out, 2, GRID, **sizes)


def build_blocks(count, **options):
    torch.manual_seed(0)
    blocks = nn.ModuleList(ReversibleBlock(spec(**options)) for _ in range(count))
    for parameter in blocks.parameters():
        nn.init.normal_(parameter, std=0.2)
    return blocks.double()


def tokens(batch=3, dim=16):
    return torch.randn(
        batch, 32, dim, generator=torch.Generator().manual_seed(1), dtype=torch.double
    )


def gradients(blocks, x, stored):
    """(output, gradients by name) of a sum with random weights, with the same random numbers."""
    x = x.clone().requires_grad_()
    torch.manual_seed(2)
    out = run_reversible(list(blocks), x, GRID, stored)
    after = torch.rand(1).item()
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(3)).double()
    blocks.zero_grad()
    (out * weights).sum().backward()
    grads = {name: p.grad.clone() for name, p in blocks.named_parameters() if p.grad is not None}
    return out.detach(), grads | {"x": x.grad}, after


@pytest.mark.parametrize(
    "options", [{}, {"drop_path": 0.5}, {"drop": 0.4}, {"drop": 0.3, "drop_path": 0.3}]
)
def test_gradients_are_those_of_the_stored_computation(options):
    """With drop path and dropout as well: the recomputation sees the same random numbers, and
    leaves the generators as they were."""
    blocks = build_blocks(4, **options)
    ours, plain = (gradients(blocks, tokens(), stored) for stored in (False, True))
    assert torch.equal(ours[0], plain[0]) and ours[2] == plain[2]
    assert ours[1].keys() == plain[1].keys() and len(ours[1]) > 40
    for name, value in ours[1].items():
        assert torch.allclose(value, plain[1][name], rtol=1e-8, atol=1e-10), name


def test_both_branches_are_dropped_together():
    """What is dropped leaves its pair as it was."""
    (block,) = build_blocks(1, drop_path=0.5)
    x = tokens(batch=64)
    a, b = run_reversible([block], x, GRID).chunk(2, dim=-1)
    kept_a, kept_b = ((part != x).flatten(1).any(1) for part in (a, b))
    assert torch.equal(kept_a, kept_b) and 10 < kept_a.sum() < 54


def test_frozen_parameters_get_no_gradient():
    blocks = build_blocks(2)
    blocks[0].F.requires_grad_(False)
    ours, plain = (gradients(blocks, tokens(), stored)[1] for stored in (False, True))
    assert ours.keys() == plain.keys() and not any(name.startswith("0.F") for name in ours)
    assert all(torch.allclose(ours[name], plain[name]) for name in ours)


def kept_bytes(blocks, x, stored):
    """Bytes that autograd saves for the backward pass, parameters left out."""
    seen = {}
    parameters = {p.untyped_storage().data_ptr() for p in blocks.parameters()}

    def save(tensor):
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in parameters:
            seen[pointer] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        out = run_reversible(list(blocks), x.clone().requires_grad_(), GRID, stored)
    del out
    return sum(seen.values())


def test_what_is_kept_does_not_grow_with_the_blocks():
    x = tokens()
    two, eight = (kept_bytes(build_blocks(count), x, False) for count in (2, 8))
    assert two == eight == 2 * x.numel() * 8
    assert kept_bytes(build_blocks(8), x, True) > 3 * kept_bytes(build_blocks(2), x, True)


def test_without_gradients_nothing_is_kept():
    blocks = build_blocks(2).eval()
    out = run_reversible(list(blocks), tokens(), GRID)
    assert out.grad_fn.name() != "_ReversibleBackward"
    with torch.no_grad():
        assert torch.equal(out, run_reversible(list(blocks), tokens(), GRID))


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("add", [4.0, 6]),
        ("avg", [2.0, 3]),
        ("max", [3.0, 4]),
        ("min", [1.0, 2]),
        ("concat", [1.0, 2, 3, 4]),
    ],
)
def test_fusions(mode, expected):
    fusion = TwoStreamFusion(mode, 4)
    assert fusion(torch.tensor([[[1.0, 2, 3, 4]]])).flatten().tolist() == expected
    assert fusion.doubles == (mode == "concat")


def test_fusions_by_an_mlp():
    fusion = TwoStreamFusion("concat_linear_0.5_0.1", 4)
    assert fusion.fuse_fn.fc1.out_features == 2 and fusion.fuse_fn.drop1.p == 0.1
    x = torch.randn(2, 3, 4)
    assert torch.equal(fusion.eval()(x), x + fusion.fuse_fn(x))
    assert isinstance(TwoStreamFusion("ln+concat_linear_2", 4).fuse_fn[0], nn.LayerNorm)
    for mode in ("sum", "concat_2", "concat_linear_a", "concat_linear_1_0_3"):
        with pytest.raises(UserError, match="no fusion of two streams"):
            TwoStreamFusion(mode, 4)


@pytest.mark.parametrize("mode", ["conv", "max"])
@pytest.mark.parametrize("pool_first", [False, True])
@pytest.mark.parametrize("fusion", ["avg", "concat", "concat_linear_2"])
def test_transitions_change_grid_and_width(mode, pool_first, fusion):
    sizes = {"kernel_q": (3, 3, 3), "stride_q": (1, 2, 2), "mode": mode, "pool_first": pool_first}
    transition = StageTransition(spec(16, 32, **sizes), fusion)
    out, grid = transition(torch.randn(2, 32, 32), GRID)
    assert grid == (2, 2, 2) and out.shape == (2, 8, 32)
    out.sum().backward()


def test_a_transition_is_dropped_as_a_whole():
    transition = StageTransition(spec(drop_path=0.5), "avg")
    out, _ = transition(torch.randn(64, 32, 32), GRID)
    dropped = (out == 0).flatten(1).all(1)
    assert 10 < dropped.sum() < 54


def test_backward_under_autocast():
    """The recomputation is in the precision of the forward pass."""
    blocks = build_blocks(2).float()
    x = tokens().float()

    def run(stored):
        with torch.autocast("cpu", torch.bfloat16):
            return gradients(blocks, x, stored)

    ours, plain = run(False), run(True)
    for name, value in ours[1].items():
        scale = plain[1][name].abs().max().clamp_min(1e-3)
        assert ((value - plain[1][name]).abs().max() / scale) < 0.05, name
