"""Pooling attention of MViT (arXiv 2104.11227, 2112.01526) and its block.

Tokens are ``B N C``: the class token, if there is one, then a grid of ``T H W`` places, W fastest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp
from torch import nn

Grid = tuple[int, int, int]
_TABLES = (("rel_pos_t", "t"), ("rel_pos_h", "y"), ("rel_pos_w", "x"))  # and their index


@dataclass(frozen=True)
class PoolingSpec:
    """One block: widths, heads, the grid it is given, kernels and strides (empty: no pooling).

    ``mode``: conv (depthwise, shared by heads), conv_unshared, avg or max.
    """

    dim: int
    dim_out: int
    heads: int
    grid: Grid
    kernel_q: tuple[int, ...] = ()
    kernel_kv: tuple[int, ...] = ()
    stride_q: tuple[int, ...] = ()
    stride_kv: tuple[int, ...] = ()
    mode: str = "conv"
    class_token: bool = True
    pool_first: bool = False
    separate_qkv: bool = False
    qkv_bias: bool = True
    residual_pooling: bool = False
    rel_pos_spatial: bool = False
    rel_pos_temporal: bool = False
    rel_pos_zero_init: bool = False
    widen_in_attention: bool = False
    mlp_ratio: float = 4.0
    drop: float = 0.0
    drop_path: float = 0.0
    layer_scale: float = 0.0

    @property
    def attention_dim(self) -> int:
        """Width inside the attention."""
        return self.dim_out if self.widen_in_attention else self.dim


def pooled(size: int, kernel: int, stride: int) -> int:
    """Places that a pooling of padding ``kernel // 2`` leaves of ``size``."""
    return (size + 2 * (kernel // 2) - kernel) // stride + 1


def pool_tokens(
    x: torch.Tensor, pool: nn.Module | None, norm: nn.Module | None, grid: Grid, cls: bool
) -> tuple[torch.Tensor, Grid]:
    """Tokens ``B heads N C`` of a grid -> (pooled tokens, their grid).

    The class token, if there is one, is left alone, but normalised like the others.
    """
    if pool is None:
        return x, grid
    b, heads, _, c = x.shape
    token, x = (x[:, :, :1], x[:, :, 1:]) if cls else (None, x)
    x = pool(x.reshape(b * heads, *grid, c).permute(0, 4, 1, 2, 3))
    grid = tuple(x.shape[2:])
    x = x.flatten(2).transpose(1, 2).unflatten(0, (b, heads))
    x = torch.cat([token, x], dim=2) if cls else x
    return (norm(x) if norm is not None else x), grid


class PoolingAttention(nn.Module):
    """Attention whose queries, keys and values are pooled; relative positions by axis."""

    def __init__(self, spec: PoolingSpec):
        super().__init__()
        self.spec = spec
        dim, out = spec.dim, spec.attention_dim
        self.separate = spec.pool_first or spec.separate_qkv
        if self.separate:
            self.q = nn.Linear(dim, out, bias=spec.qkv_bias)
            self.k = nn.Linear(dim, out, bias=spec.qkv_bias)
            self.v = nn.Linear(dim, out, bias=spec.qkv_bias)
        else:
            self.qkv = nn.Linear(dim, 3 * out, bias=spec.qkv_bias)
        self.proj = nn.Linear(out, out)
        self.proj_drop = nn.Dropout(spec.drop)
        for name, kernel, stride in (
            ("q", spec.kernel_q, spec.stride_q),
            ("k", spec.kernel_kv, spec.stride_kv),
            ("v", spec.kernel_kv, spec.stride_kv),
        ):
            pool, norm = self._make_pool(kernel, stride)
            setattr(self, f"pool_{name}", pool)
            setattr(self, f"norm_{name}", norm)
        self._make_relative_positions()

    def _make_pool(
        self, kernel: Sequence[int], stride: Sequence[int]
    ) -> tuple[nn.Module | None, nn.Module | None]:
        if not kernel or (math.prod(kernel) == 1 and math.prod(stride) == 1):
            return None, None
        spec, kernel, stride = self.spec, tuple(kernel), tuple(stride)
        padding = tuple(k // 2 for k in kernel)
        if spec.mode in ("avg", "max"):
            kind = nn.AvgPool3d if spec.mode == "avg" else nn.MaxPool3d
            return kind(kernel, stride, padding), None
        width = spec.dim if spec.pool_first else spec.attention_dim
        width = width // spec.heads if spec.mode == "conv" else width
        pool = nn.Conv3d(width, width, kernel, stride, padding, groups=width, bias=False)
        return pool, nn.LayerNorm(width, eps=1e-6)

    def _make_relative_positions(self) -> None:
        spec = self.spec
        head_dim = spec.attention_dim // spec.heads
        if spec.rel_pos_spatial:
            side = spec.grid[1]
            sides = [side // s[1] if s else side for s in (spec.stride_q, spec.stride_kv)]
            rows = 2 * max(sides) - 1
            self.rel_pos_h = nn.Parameter(torch.zeros(rows, head_dim))
            self.rel_pos_w = nn.Parameter(torch.zeros(rows, head_dim))
        if spec.rel_pos_temporal:
            self.rel_pos_t = nn.Parameter(torch.zeros(2 * spec.grid[0] - 1, head_dim))
        if not spec.rel_pos_zero_init:
            for name in ("rel_pos_h", "rel_pos_w", "rel_pos_t"):
                if hasattr(self, name):
                    nn.init.trunc_normal_(getattr(self, name), std=0.02)

    def forward(self, x: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
        spec = self.spec
        q, k, v = self._heads_first(x)
        q, q_grid = pool_tokens(q, self.pool_q, self.norm_q, grid, spec.class_token)
        k, k_grid = pool_tokens(k, self.pool_k, self.norm_k, grid, spec.class_token)
        v, _ = pool_tokens(v, self.pool_v, self.norm_v, grid, spec.class_token)
        if spec.pool_first:
            q, k, v = self._project(q, self.q), self._project(k, self.k), self._project(v, self.v)
        x = self._attend(q, k, v, q_grid, k_grid)
        if spec.residual_pooling:
            if spec.class_token:
                x = torch.cat([x[:, :, :1], x[:, :, 1:] + q[:, :, 1:]], dim=2)
            else:
                x = x + q
        x = x.transpose(1, 2).flatten(2)
        return self.proj_drop(self.proj(x)), q_grid

    def _heads_first(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tokens ``B N C`` -> what is pooled: queries, keys and values ``B heads N c``."""
        heads = self.spec.heads
        if self.spec.pool_first:
            fold = 1 if self.spec.mode == "conv_unshared" else heads
            x = x.unflatten(-1, (fold, -1)).transpose(1, 2)
            return x, x, x
        if self.separate:
            q, k, v = (
                layer(x).unflatten(-1, (heads, -1)).transpose(1, 2)
                for layer in (self.q, self.k, self.v)
            )
            return q, k, v
        q, k, v = self.qkv(x).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def _project(self, x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
        x = layer(x.transpose(1, 2).flatten(2))
        return x.unflatten(-1, (self.spec.heads, -1)).transpose(1, 2)

    # -- relative positions --------------------------------------------------------------------

    def _attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, q_grid: Grid, k_grid: Grid
    ) -> torch.Tensor:
        """Attention with what relative positions add to the scores.

        The additions are sums of one term an axis, so they are part of the scalar product of
        wider queries and keys (a term a place of the axis, and which place it is): no matrix of
        all pairs is ever made.
        """
        terms = self._axis_terms(q, q_grid, k_grid)
        if not terms:
            return F.scaled_dot_product_attention(q, k, v)
        if torch.jit.is_tracing():  # counted as published: one addition to each score
            return F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias(terms, k_grid))
        dim, token = q.shape[-1], int(self.spec.class_token)
        scale = dim**-0.5
        extra = torch.cat([part for _, part in terms], dim=-1).flatten(2, 4) / scale
        places = torch.cat([_places(k_grid, axis, q) for axis, _ in terms], dim=-1)
        wide_q = torch.cat([q, F.pad(extra, (0, 0, token, 0))], dim=-1)
        places = F.pad(places, (0, 0, token, 0)).expand(*k.shape[:2], -1, -1)
        wide_k = torch.cat([k, places], dim=-1)
        wide_v = F.pad(v, (0, wide_q.shape[-1] - dim))  # fused kernels want one width
        return F.scaled_dot_product_attention(wide_q, wide_k, wide_v, scale=scale)[..., :dim]

    def _axis_terms(
        self, q: torch.Tensor, q_grid: Grid, k_grid: Grid
    ) -> list[tuple[int, torch.Tensor]]:
        """(axis, ``B heads t y x places of the axis``) for each axis with relative positions."""
        spec = self.spec
        if not (spec.rel_pos_spatial or spec.rel_pos_temporal):
            return []
        patches = (q[:, :, 1:] if spec.class_token else q).unflatten(2, q_grid)
        terms = []
        for axis, (name, index) in enumerate(_TABLES):
            if hasattr(self, name):
                table = relative_table(getattr(self, name), q_grid[axis], k_grid[axis])
                part = torch.einsum(f"bntyxc,{index}kc->bntyxk", patches, table)
                terms.append((axis, part))
        return terms

    def _bias(self, terms: list[tuple[int, torch.Tensor]], k_grid: Grid) -> torch.Tensor:
        """The terms as an addition to the scores: ``B heads Nq Nk``, zero for the class token."""
        bias = 0.0
        for axis, part in terms:
            shape = [1, 1, 1]
            shape[axis] = part.shape[-1]
            bias = bias + part.unflatten(-1, shape)
        bias = bias.expand(*bias.shape[:5], *k_grid).flatten(5).flatten(2, 4)
        return F.pad(bias, (1, 0, 1, 0)) if self.spec.class_token else bias


def _places(grid: Grid, axis: int, like: torch.Tensor) -> torch.Tensor:
    """Which place of an axis each place of the grid has: ``N places``, ones and zeros."""
    which = torch.eye(grid[axis], dtype=like.dtype, device=like.device)
    shape = [1, 1, 1, grid[axis]]
    shape[axis] = grid[axis]
    return which.view(shape).expand(*grid, -1).flatten(0, 2)


def relative_table(table: torch.Tensor, queries: int, keys: int) -> torch.Tensor:
    """Table ``L c`` -> one vector for each pair: ``queries keys c``.

    A table of another length is resized linearly (published code, tested by parity).
    """
    length = 2 * max(queries, keys) - 1
    if table.shape[0] != length:
        table = F.interpolate(table.t()[None], size=length, mode="linear")[0].t()
    q_ratio, k_ratio = max(keys / queries, 1.0), max(queries / keys, 1.0)
    rows = torch.arange(queries, device=table.device)[:, None] * q_ratio
    columns = torch.arange(keys, device=table.device)[None] * k_ratio
    index = rows - columns + (keys - 1) * k_ratio
    return table[index.long()]


class PoolingBlock(nn.Module):
    """Pooling attention and MLP, each after a norm; the skip path is max-pooled."""

    def __init__(self, spec: PoolingSpec):
        super().__init__()
        self.spec = spec
        wide = spec.attention_dim
        self.norm1 = nn.LayerNorm(spec.dim, eps=1e-6)
        self.attn = PoolingAttention(spec)
        self.drop_path = DropPath(spec.drop_path) if spec.drop_path > 0 else nn.Identity()
        self.norm2 = nn.LayerNorm(wide, eps=1e-6)
        self.mlp = Mlp(wide, int(wide * spec.mlp_ratio), spec.dim_out, drop=spec.drop)
        self.gamma_1 = self.gamma_2 = None
        if spec.layer_scale > 0:
            self.gamma_1 = nn.Parameter(torch.full((wide,), spec.layer_scale))
            self.gamma_2 = nn.Parameter(torch.full((spec.dim_out,), spec.layer_scale))
        if spec.dim != spec.dim_out:
            self.proj = nn.Linear(spec.dim, spec.dim_out)
        self.pool_skip = None
        if math.prod(spec.stride_q) > 1:
            kernel = [s + 1 if s > 1 else s for s in spec.stride_q]
            padding = [k // 2 for k in kernel]
            self.pool_skip = nn.MaxPool3d(kernel, list(spec.stride_q), padding)

    def forward(self, x: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Tokens of ``grid`` -> tokens of the block's own grid (:meth:`next_grid`)."""
        spec = self.spec
        wider = spec.dim != spec.dim_out
        normed = self.norm1(x)
        y, _ = self.attn(normed, grid)
        if wider and spec.widen_in_attention:
            x = self.proj(normed)
        x, _ = pool_tokens(x.unsqueeze(1), self.pool_skip, None, grid, spec.class_token)
        x = x.squeeze(1)
        x = x + self.drop_path(y if self.gamma_1 is None else self.gamma_1 * y)
        normed = self.norm2(x)
        y = self.mlp(normed)
        if wider and not spec.widen_in_attention:
            x = self.proj(normed)
        return x + self.drop_path(y if self.gamma_2 is None else self.gamma_2 * y)

    def next_grid(self, grid: Grid) -> Grid:
        """The grid that the block leaves of ``grid``."""
        if not self.spec.kernel_q:
            return grid
        sizes = zip(grid, self.spec.kernel_q, self.spec.stride_q)
        return tuple(pooled(size, kernel, stride) for size, kernel, stride in sizes)
