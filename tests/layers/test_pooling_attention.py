"""Pooling attention against its published form, written out pair by pair."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from slowfast.layers import conv
from slowfast.layers.pooling_attention import (
    PoolingAttention,
    PoolingBlock,
    PoolingSpec,
    pool_tokens,
    pooled_size,
    relative_index,
    relative_table,
)

GRID = (2, 4, 4)


def spec(**options):
    base = {
        "dim": 8,
        "dim_out": 8,
        "num_heads": 2,
        "grid": GRID,
        "kernel_q": (3, 3, 3),
        "kernel_kv": (3, 3, 3),
        "stride_q": (1, 2, 2),
        "stride_kv": (1, 1, 1),
    }
    return PoolingSpec(**base | options)


def slow_distance_index(query, key, num_queries, num_keys):
    """Row of the table, counted in steps of the finer of two resolutions."""
    fine = max(num_queries, num_keys)
    at_query, at_key = query * fine // num_queries, key * fine // num_keys
    offset = num_keys * fine // num_keys - fine // num_keys  # distance 0 of the last key
    return at_query - at_key + offset


def slow_bias(layer, q, q_grid, k_grid):
    """``B heads Nq Nk``: the sum of the axes' terms for every pair of positions."""
    token = int(layer.spec.class_token)
    count_q, count_k = (torch.Size(g).numel() for g in (q_grid, k_grid))
    bias = torch.zeros(*q.shape[:2], count_q + token, count_k + token)
    axes = [("rel_pos_t", 0), ("rel_pos_h", 1), ("rel_pos_w", 2)]
    for i, at in enumerate(torch.cartesian_prod(*(torch.arange(s) for s in q_grid))):
        for j, to in enumerate(torch.cartesian_prod(*(torch.arange(s) for s in k_grid))):
            for name, axis in axes:
                if hasattr(layer, name):
                    index = slow_distance_index(
                        int(at[axis]), int(to[axis]), q_grid[axis], k_grid[axis]
                    )
                    row = getattr(layer, name)[index]
                    bias[:, :, token + i, token + j] += q[:, :, token + i] @ row
    return bias


def slow_attention(layer, x):
    """The published form: one matrix of scores with a bias."""
    s, heads = layer.spec, layer.spec.num_heads
    b, n, _ = x.shape
    qkv = layer.qkv(x).view(b, n, 3, heads, -1)
    q, k, v = (qkv[:, :, part].transpose(1, 2) for part in range(3))
    q, q_grid = pool_tokens(q, layer.pool_q, layer.norm_q, s.grid, s.class_token)
    k, k_grid = pool_tokens(k, layer.pool_k, layer.norm_k, s.grid, s.class_token)
    v, _ = pool_tokens(v, layer.pool_v, layer.norm_v, s.grid, s.class_token)
    scores = q @ k.mT / q.shape[-1] ** 0.5 + slow_bias(layer, q, q_grid, k_grid)
    y = scores.softmax(-1) @ v
    if s.residual_pooling:
        y = torch.cat([y[:, :, :1], y[:, :, 1:] + q[:, :, 1:]], 2) if s.class_token else y + q
    return layer.proj(y.transpose(1, 2).flatten(2)), q_grid


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("axes", [(True, True), (True, False), (False, True), (False, False)])
def test_attention_is_its_published_form(class_token, axes):
    """Values and gradients of the additional channels are those of a bias."""
    options = spec(
        dim_out=16,
        class_token=class_token,
        rel_pos_spatial=axes[0],
        rel_pos_temporal=axes[1],
        residual_pooling=True,
        widen_in_attention=True,
    )
    torch.manual_seed(0)
    layer = PoolingAttention(options)
    for name, parameter in layer.named_parameters():
        if "rel_pos" in name:
            nn.init.normal_(parameter)
    x = torch.randn(2, 32 + class_token, 8)
    results = []
    for attend in (lambda: layer(x, GRID), lambda: slow_attention(layer, x)):
        layer.zero_grad()
        y, grid = attend()
        y.square().sum().backward()
        assert grid == (2, 2, 2)
        results.append([y.detach(), *(p.grad.clone() for p in layer.parameters())])
    for ours, published in zip(*results):
        assert torch.allclose(ours, published, rtol=1e-3, atol=1e-4)


def test_relative_table_by_hand():
    """Rows of a table of 5 are the distances -2 ... 2."""
    table = torch.arange(5.0)[:, None]
    assert relative_table(table, 3, 3)[..., 0].tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    long = torch.arange(7.0)[:, None]  # distances of four positions
    assert relative_table(long, 2, 4)[..., 0].tolist() == [[3, 2, 1, 0], [5, 4, 3, 2]]
    assert relative_table(long, 4, 2)[..., 0].tolist() == [[2, 0], [3, 1], [4, 2], [5, 3]]


def test_a_table_of_another_length_is_resized():
    table = torch.tensor([[0.0], [3.0], [6.0]])  # of two positions
    resized = relative_table(table, 3, 3)
    expected = F.interpolate(table.T[None], size=5, mode="linear")[0, 0]
    assert resized[0, :, 0].tolist() == pytest.approx(expected[[2, 1, 0]].tolist())


def test_the_class_token_is_not_pooled():
    torch.manual_seed(0)
    pool = nn.MaxPool3d((1, 2, 2), (1, 2, 2))
    x = torch.randn(2, 3, 33, 4)
    y, grid = pool_tokens(x, pool, None, GRID, class_token=True)
    assert grid == (2, 2, 2) and y.shape == (2, 3, 9, 4)
    assert torch.equal(y[:, :, 0], x[:, :, 0])
    maps = x[1, 2, 1:].view(2, 4, 4, 4)
    assert torch.equal(y[1, 2, 1 + 4 + 2 + 1], maps[1, 2:4, 2:4].amax((0, 1)))  # the last position
    same, grid = pool_tokens(x, None, None, GRID, class_token=True)
    assert same is x and grid == GRID


@pytest.mark.parametrize("size, kernel, stride", [(8, 3, 2), (7, 3, 2), (7, 2, 2), (5, 1, 1)])
def test_pooled_size_is_that_of_the_layer(size, kernel, stride):
    layer = nn.Conv1d(1, 1, kernel, stride, kernel // 2)
    assert layer(torch.zeros(1, 1, size)).shape[-1] == pooled_size(size, kernel, stride)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dim_out": 16},
        {"dim_out": 16, "widen_in_attention": True},
        {"separate_qkv": True},
        {"pool_first": True},
        {"pool_first": True, "mode": "conv_unshared"},
        {"mode": "max"},
        {"mode": "avg", "class_token": False, "kernel_q": (1, 3, 3), "kernel_kv": (1, 3, 3)},
        {"kernel_q": (), "stride_q": ()},
        {"layer_scale": 0.1},
    ],
)
def test_blocks_of_every_kind(options):
    torch.manual_seed(0)
    block = PoolingBlock(spec(**options))
    token = int(block.spec.class_token)
    x = torch.randn(2, 32 + token, 8, requires_grad=True)
    grid = block.next_grid(GRID)
    assert grid == (GRID if options.get("kernel_q") == () else (2, 2, 2))
    y = block(x, GRID)
    assert y.shape == (2, torch.Size(grid).numel() + token, block.spec.dim_out)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in block.parameters())
    assert torch.allclose(block(x[:1], GRID), y[:1], atol=1e-5)  # clips are independent


def test_layer_scale_scales_the_branches():
    torch.manual_seed(0)
    plain = PoolingBlock(spec(kernel_q=(), stride_q=()))
    scaled = PoolingBlock(spec(kernel_q=(), stride_q=(), layer_scale=0.5))
    scaled.load_state_dict(plain.state_dict(), strict=False)
    nn.init.zeros_(plain.mlp.fc2.weight), nn.init.zeros_(plain.mlp.fc2.bias)
    nn.init.zeros_(scaled.mlp.fc2.weight), nn.init.zeros_(scaled.mlp.fc2.bias)
    x = torch.randn(1, 33, 8)
    assert torch.allclose(scaled(x, GRID) - x, 0.5 * (plain(x, GRID) - x), atol=1e-6)


@pytest.mark.parametrize("class_token", [True, False])
def test_widths_are_multiples_of_8_and_there_is_no_mask(class_token, monkeypatch):
    shapes = []

    def record(q, k, v, **options):
        shapes.append((q.shape, k.shape, v.shape))
        assert options.get("attn_mask") is None
        return original(q, k, v, **options)

    monkeypatch.setattr(conv, "_WIDE", 0)  # narrow float32 heads on the CPU are not padded
    original = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", record)
    layer = PoolingAttention(
        spec(class_token=class_token, rel_pos_spatial=True, rel_pos_temporal=True)
    )
    layer(torch.randn(2, 32 + class_token, 8), GRID)
    larger = (4, 6, 8)  # clips of another size than the buffers are for
    layer(torch.randn(2, 192 + class_token, 8), larger)
    for q, k, v in shapes:
        assert q[-1] == k[-1] == v[-1] and q[-1] % 8 == 0


def test_buffers_of_positions_are_integers_and_no_part_of_checkpoints():
    layer = PoolingAttention(spec(rel_pos_spatial=True, rel_pos_temporal=True))
    for axis, name in enumerate("thw"):
        index = getattr(layer, f"rel_index_{name}")
        assert index.dtype == torch.long
        q_size = pooled_size(GRID[axis], 3, (1, 2, 2)[axis])
        assert torch.equal(index, relative_index(q_size, pooled_size(GRID[axis], 3, 1)))
    assert not any("index" in name or "codes" in name for name in layer.state_dict())


@pytest.mark.parametrize("class_token", [True, False])
def test_narrow_heads_compute_the_same(monkeypatch, class_token):
    """Small float32 networks on the CPU have a form of their own, which keeps their bits."""
    options = spec(
        stride_q=(1, 1, 1),
        stride_kv=(1, 2, 2),
        class_token=class_token,
        rel_pos_spatial=True,
        rel_pos_temporal=True,
        rel_pos_zero_init=False,
        residual_pooling=True,
    )
    torch.manual_seed(0)
    layer, x = PoolingAttention(options), torch.randn(2, 32 + class_token, 8)
    narrow, _ = layer(x, GRID)
    monkeypatch.setattr(conv, "_WIDE", 0)
    wide, _ = layer(x, GRID)
    torch.testing.assert_close(narrow, wide, rtol=1e-5, atol=1e-6)
