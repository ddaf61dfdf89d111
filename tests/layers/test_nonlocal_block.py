"""Non-local blocks against the formula of the paper."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from slowfast.layers.nonlocal_block import NonLocal


def by_formula(block: NonLocal, x: torch.Tensor) -> torch.Tensor:
    """The block on one part of the clip, position by position."""
    seen = F.max_pool3d(x, block.pool, block.pool) if max(block.pool) > 1 else x
    theta, phi, g = (
        convolution(clip).flatten(2)
        for convolution, clip in (
            (block.conv_theta, x),
            (block.conv_phi, seen),
            (block.conv_g, seen),
        )
    )
    scores = torch.einsum("bcn,bcm->bnm", theta, phi)
    if block.kind == "softmax":
        weights = (scores * theta.shape[1] ** -0.5).softmax(-1)
    else:
        weights = scores / phi.shape[2]
    found = torch.einsum("bnm,bcm->bcn", weights, g).reshape(len(x), -1, *x.shape[2:])
    return x + block.bn(block.conv_out(found))


@pytest.mark.parametrize("kind", ["softmax", "dot_product"])
@pytest.mark.parametrize("pool", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_formula_and_gradients(kind, pool, groups):
    """Groups are consecutive halves of the clip that do not see each other."""
    torch.manual_seed(0)
    block = NonLocal(4, kind=kind, pool=pool, groups=groups).double().eval()
    x = torch.randn(2, 4, 4, 4, 6, dtype=torch.double, requires_grad=True)
    expected = torch.cat([by_formula(block, part) for part in x.chunk(groups, dim=2)], dim=2)
    ours = block(x)
    assert torch.allclose(ours, expected)
    weight = torch.randn(x.shape, dtype=torch.double)
    inputs = (x, *block.parameters())
    gradients = [torch.autograd.grad((y * weight).sum(), inputs) for y in (ours, expected)]
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(*gradients))


def test_starts_as_the_identity():
    block = NonLocal(4, kind="softmax").eval()
    block.start_at_zero(norm=True, conv=False)
    x = torch.randn(1, 4, 2, 3, 3)
    assert torch.equal(block(x), x)
