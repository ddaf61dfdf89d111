"""Attention against its definition, written out per head."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slowfast.layers.attention import Attention, TransformerBlock, attend

DIM, HEADS, TOKENS = 12, 3, 5


def tokens(batch=2):
    return torch.randn(batch, TOKENS, DIM, generator=torch.Generator().manual_seed(1))


def slow_attention(layer: Attention, x: torch.Tensor, scale: float) -> torch.Tensor:
    """One query of one head at a time."""
    width = DIM // HEADS
    weight, bias = layer.qkv.weight, layer.qkv.bias
    out = torch.zeros_like(x)
    for b in range(len(x)):
        for head in range(HEADS):
            rows = [
                slice(part * DIM + head * width, part * DIM + (head + 1) * width)
                for part in range(3)
            ]
            q, k, v = (x[b] @ weight[r].T + (0 if bias is None else bias[r]) for r in rows)
            for n in range(TOKENS):
                shares = torch.stack([scale * q[n] @ k[m] for m in range(TOKENS)]).softmax(0)
                out[b, n, head * width : (head + 1) * width] = shares @ v
    return layer.proj(out)


@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("bias", [True, False])
def test_attention_is_its_definition(scale, bias):
    torch.manual_seed(0)
    layer = Attention(DIM, HEADS, scale=scale, qkv_bias=bias)
    x = tokens()
    with torch.no_grad():
        expected = slow_attention(layer, x, scale or (DIM // HEADS) ** -0.5)
        assert torch.allclose(layer(x), expected, atol=1e-6)


def test_attention_dropout_acts_in_training_only():
    torch.manual_seed(0)
    layer = Attention(DIM, HEADS, attn_drop=0.5)
    x = tokens()
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_block_adds_two_branches():
    torch.manual_seed(0)
    block = TransformerBlock(DIM, HEADS, mlp_ratio=2.0)
    x = tokens()
    y = x + block.attn(block.norm1(x))
    y = y + block.mlp(block.norm2(y))
    assert torch.allclose(block(x), y)
    assert block.mlp.fc1.out_features == 2 * DIM


def test_block_without_branches_is_the_identity():
    block = TransformerBlock(DIM, HEADS)
    for layer in (block.attn.proj, block.mlp.fc2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    x = tokens()
    assert torch.equal(block(x), x)


def test_drop_path_of_one_skips_both_branches():
    block = TransformerBlock(DIM, HEADS, drop_path=1.0)
    x = tokens()
    assert torch.equal(block(x), x)  # training
    assert not torch.equal(block.eval()(x), x)


def test_attention_does_not_depend_on_the_order_of_tokens():
    torch.manual_seed(0)
    block = TransformerBlock(DIM, HEADS)
    x = tokens()
    assert torch.allclose(block(x.flip(1)), block(x).flip(1), atol=1e-6)


def test_large_batches_are_computed_in_parts(monkeypatch):
    """PyTorch's kernels for CUDA take at most 65535 problems."""
    monkeypatch.setattr("slowfast.layers.attention.MAX_BATCH", 3)
    torch.manual_seed(0)
    q, k, v = (torch.randn(8, 2, 5, 4, requires_grad=True) for _ in range(3))
    for options in ({}, {"scale": 0.3}, {"causal": True}):
        expected = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, scale=options.get("scale"), is_causal=options.get("causal", False)
        )
        found = attend(q, k, v, **options)
        assert torch.allclose(found, expected, atol=1e-6)
        grad = torch.randn_like(found)
        gradients = (torch.autograd.grad(y, (q, k, v), grad) for y in (found, expected))
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients))


def test_short_attention_in_half_precision():
    """Its own backward pass on the CPU gives PyTorch's gradients in the precision of bfloat16."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 2, 9, 8, requires_grad=True) for _ in range(3))
    grad = torch.randn(3, 2, 9, 8)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attend(q, k, v, scale=0.5)
    assert found.dtype == torch.bfloat16
    ours = torch.autograd.grad(found, (q, k, v), grad.bfloat16())
    for a, b in zip(ours, torch.autograd.grad(expected, (q, k, v), grad)):
        assert (a - b).norm() < 2e-2 * b.norm()
