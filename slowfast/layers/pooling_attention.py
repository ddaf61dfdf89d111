"""Pooling attention of MViT (arXiv 2104.11227, 2112.01526) and its block.

Tokens are ``B N C``: the class token, if there is one, then a grid of ``T H W`` positions, W
fastest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp
from torch import nn

from slowfast.layers.attention import attend
from slowfast.layers.conv import DepthwiseConv3d, keeps_plain_form
from slowfast.layers.positions import resize_rel_pos
from slowfast.layers.precision import to_autocast

Grid = tuple[int, int, int]
_AXES = ("t", "h", "w")  # of a grid: names of their tables
_WIDTH_MULTIPLE = 8  # of queries and keys, for fused attention in half precision


@dataclass(frozen=True)
class PoolingSpec:
    """Sizes and options of one block.

    dim, dim_out: channels of the tokens that enter and leave.
    num_heads: attention heads.
    grid: positions ``T H W`` of the tokens that enter.
    kernel_q, stride_q: pooling of the queries over ``T H W``; empty: no pooling.
    kernel_kv, stride_kv: pooling of keys and values.
    mode: conv (depthwise, shared by the heads), conv_unshared, avg or max.
    class_token: the first token is no position of the grid.
    pool_first: pool before the projections.
    separate_qkv: three projections instead of one.
    residual_pooling: add the pooled queries to the result of the attention.
    widen_in_attention: change the channels in the attention (v2), not in the MLP (v1).
    layer_scale: initial scale of each branch; 0: none.
    """

    dim: int
    dim_out: int
    num_heads: int
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
        """Channels inside the attention."""
        return self.dim_out if self.widen_in_attention else self.dim


def pooled_size(size: int, kernel: int, stride: int) -> int:
    """Positions after a pooling of ``size`` positions with padding ``kernel // 2``."""
    return (size + 2 * (kernel // 2) - kernel) // stride + 1


def pool_tokens(
    x: torch.Tensor, pool: nn.Module | None, norm: nn.Module | None, grid: Grid, class_token: bool
) -> tuple[torch.Tensor, Grid]:
    """Tokens ``B heads N C`` of ``grid`` -> (pooled tokens, their grid).

    The class token is not pooled, but normalised like the others.
    """
    if pool is None:
        return x, grid
    token, patches, grid = _pool_apart(x, pool, norm, grid, class_token)
    return patches if token is None else torch.cat([token, patches], dim=2), grid


def _pool_apart(
    x: torch.Tensor, pool: nn.Module | None, norm: nn.Module | None, grid: Grid, class_token: bool
) -> tuple[torch.Tensor | None, torch.Tensor, Grid]:
    """As :func:`pool_tokens`, with the class token (or None) apart from the others, which stay
    contiguous where they were pooled."""
    token, x = (x[:, :, :1], x[:, :, 1:]) if class_token else (None, x)
    if pool is None:
        return token, x, grid
    b, heads, _, c = x.shape
    maps = pool(x.reshape(b * heads, *grid, c).movedim(-1, 1))  # B*heads C T H W
    grid = tuple(maps.shape[2:])
    x = maps.flatten(2).mT.unflatten(0, (b, heads))
    if norm is None:
        return token, x, grid
    if token is not None and keeps_plain_form(x, c):  # one sum of gradients, in one order
        x = norm(torch.cat([token, x], dim=2))
        return x[:, :, :1], x[:, :, 1:], grid
    return None if token is None else norm(token), norm(x), grid


class PoolingAttention(nn.Module):
    """Attention with pooled queries, keys and values; relative positions per axis."""

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
        """(pooling, norm after it), None where there is none."""
        if not kernel or (math.prod(kernel) == 1 and math.prod(stride) == 1):
            return None, None
        spec, kernel, stride = self.spec, tuple(kernel), tuple(stride)
        padding = tuple(k // 2 for k in kernel)
        if spec.mode in ("avg", "max"):
            kind = nn.AvgPool3d if spec.mode == "avg" else nn.MaxPool3d
            return kind(kernel, stride, padding), None
        width = spec.dim if spec.pool_first else spec.attention_dim
        width = width // spec.num_heads if spec.mode == "conv" else width
        pool = DepthwiseConv3d(width, kernel, stride, bias=False)
        return pool, nn.LayerNorm(width, eps=1e-6)

    def _make_relative_positions(self) -> None:
        spec = self.spec
        head_dim = spec.attention_dim // spec.num_heads
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
        self._make_constants()

    def _make_constants(self) -> None:
        """Buffers of what the sizes of the grids determine, for the grid of ``spec``.

        Integers, so that no compiler can round an index otherwise. They are not part of a
        checkpoint.
        """
        spec, axes = self.spec, self._axes()
        q_grid = _pooled_grid(spec.grid, spec.kernel_q, spec.stride_q)
        k_grid = _pooled_grid(spec.grid, spec.kernel_kv, spec.stride_kv)
        for axis in axes:
            index = relative_index(q_grid[axis], k_grid[axis])
            self.register_buffer(f"rel_index_{_AXES[axis]}", index, persistent=False)
        if axes:
            codes = self._make_key_codes(k_grid, torch.device("cpu"))
            self.register_buffer("key_codes", codes, persistent=False)
            self.code_grid = k_grid

    def _axes(self) -> list[int]:
        """Axes of the grid that have relative positions."""
        return [axis for axis, name in enumerate(_AXES) if hasattr(self, f"rel_pos_{name}")]

    def forward(self, x: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
        """Tokens ``B N C`` of ``grid`` -> (tokens of the queries' grid, that grid)."""
        spec = self.spec
        q, k, v = self._split_heads(x)
        if keeps_plain_form(x, spec.attention_dim // spec.num_heads):
            x, q_grid = self._attend_narrow(q, k, v, grid)
            return self.proj_drop(self.proj(x.transpose(1, 2).flatten(2))), q_grid
        token, q, q_grid = _pool_apart(q, self.pool_q, self.norm_q, grid, spec.class_token)
        k, k_grid = pool_tokens(k, self.pool_k, self.norm_k, grid, spec.class_token)
        v, _ = pool_tokens(v, self.pool_v, self.norm_v, grid, spec.class_token)
        if spec.pool_first:
            q = self._project(q, self.q)
            token = None if token is None else self._project(token, self.q)
            k, v = self._project(k, self.k), self._project(v, self.v)
        q, k, v = to_autocast(q), to_autocast(k), to_autocast(v)
        x = self._attend(None if token is None else to_autocast(token), q, k, v, q_grid, k_grid)
        if spec.residual_pooling:
            x = torch.cat([x[:, :, :1], x[:, :, 1:] + q], dim=2) if spec.class_token else x + q
        return self.proj_drop(self.proj(x.transpose(1, 2).flatten(2))), q_grid

    def _split_heads(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tokens ``B N C`` -> queries, keys and values before pooling, ``B heads N c``."""
        heads = self.spec.num_heads
        if self.spec.pool_first:
            heads = 1 if self.spec.mode == "conv_unshared" else heads
            x = x.unflatten(-1, (heads, -1)).transpose(1, 2)
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
        """Pooled tokens ``B heads N c`` -> projected, ``B heads N c``."""
        x = layer(x.transpose(1, 2).flatten(2))
        return x.unflatten(-1, (self.spec.num_heads, -1)).transpose(1, 2)

    # -- relative positions --------------------------------------------------------------------

    def _attend(
        self,
        token: torch.Tensor | None,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        q_grid: Grid,
        k_grid: Grid,
    ) -> torch.Tensor:
        """Attention whose scores get a term of the relative positions.

        Queries are the class token ``B heads 1 c`` (or None) and the others ``B heads N c``.
        The published form adds a bias ``B heads Nq Nk`` to the scores. It is a sum of one term
        per axis, which depends on the query and on the key's index along the axis. So it equals
        the scalar product of additional channels: the queries get the terms for every index of the
        axis, the keys a one-hot code of their own index. The bias itself is never computed. Zeros
        fill the width up to a multiple of 8, as fused kernels need.
        """
        axes, dim = self._axes(), q.shape[-1]
        if not axes:
            return attend(q if token is None else torch.cat([token, q], dim=2), k, v)
        scale = dim**-0.5
        codes = self._key_codes(k_grid, k)
        terms = [self._axis_terms(q, axis, q_grid, k_grid) / scale for axis in axes]
        num_terms = sum(term.shape[-1] for term in terms)
        zeros = q.new_zeros(1).expand(*q.shape[:3], codes.shape[-1] - num_terms)
        wide_q = torch.cat([q, *terms, zeros], dim=-1)
        if token is not None:
            wide_q = torch.cat([F.pad(token, (0, codes.shape[-1])), wide_q], dim=2)
        wide_k = torch.cat([k, codes.expand(*k.shape[:2], -1, -1)], dim=-1)
        wide_v = F.pad(v, (0, codes.shape[-1]))  # fused kernels need equal widths
        return attend(wide_q, wide_k, wide_v, scale=scale)[..., :dim]

    def _attend_narrow(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, grid: Grid
    ) -> tuple[torch.Tensor, Grid]:
        """The same for narrow float32 heads on the CPU, in the order of additions of the first
        version of this file, so that small runs stay equal to the bit."""
        spec, token = self.spec, int(self.spec.class_token)
        q, q_grid = pool_tokens(q, self.pool_q, self.norm_q, grid, spec.class_token)
        k, k_grid = pool_tokens(k, self.pool_k, self.norm_k, grid, spec.class_token)
        v, _ = pool_tokens(v, self.pool_v, self.norm_v, grid, spec.class_token)
        if spec.pool_first:
            q, k, v = self._project(q, self.q), self._project(k, self.k), self._project(v, self.v)
        dim, axes = q.shape[-1], self._axes()
        if axes:
            patches = q[:, :, token:].unflatten(2, q_grid)
            tables = [self._table(axis, q_grid[axis], k_grid[axis]) for axis in axes]
            terms = [
                torch.einsum(f"bntyxc,{'tyx'[axis]}kc->bntyxk", patches, table)
                for axis, table in zip(axes, tables)
            ]
            terms = torch.cat(terms, dim=-1).flatten(2, 4) / dim**-0.5
            codes = self._key_codes(k_grid, k)[:, : terms.shape[-1]].expand(*k.shape[:2], -1, -1)
            wide_q = torch.cat([q, F.pad(terms, (0, 0, token, 0))], dim=-1)
            wide_k = torch.cat([k, codes], dim=-1)
            wide_v = F.pad(v, (0, terms.shape[-1]))
            x = attend(wide_q, wide_k, wide_v, scale=dim**-0.5)[..., :dim]
        else:
            x = attend(q, k, v)
        if spec.residual_pooling:
            x = torch.cat([x[:, :, :1], x[:, :, 1:] + q[:, :, 1:]], dim=2) if token else x + q
        return x, q_grid

    def _axis_terms(self, q: torch.Tensor, axis: int, q_grid: Grid, k_grid: Grid) -> torch.Tensor:
        """Queries ``B heads N c`` times the vectors of relative positions along ``axis``: ``B
        heads N keys-along-axis``. One product for each axis, without a copy of the queries."""
        table = self._table(axis, q_grid[axis], k_grid[axis]).mT  # queries-along-axis c keys
        patches = q.unflatten(2, q_grid)  # B heads t y x c
        if axis == 0:
            terms = patches.flatten(3, 4) @ table
        elif axis == 1:
            terms = patches @ table
        else:
            terms = torch.bmm(patches.flatten(0, 3).transpose(0, 1), table).transpose(0, 1)
        return terms.reshape(*q.shape[:3], table.shape[-1])

    def _table(self, axis: int, num_queries: int, num_keys: int) -> torch.Tensor:
        """The vector of each pair of indices along ``axis``: ``num_queries num_keys c``."""
        name = _AXES[axis]
        index = getattr(self, f"rel_index_{name}")
        if index.shape != (num_queries, num_keys):  # clips of another size
            index = None
        table = relative_table(getattr(self, f"rel_pos_{name}"), num_queries, num_keys, index)
        return to_autocast(table)

    def _key_codes(self, grid: Grid, like: torch.Tensor) -> torch.Tensor:
        """:meth:`_make_key_codes` in the type of ``like``."""
        codes = self.key_codes
        if grid != self.code_grid:  # clips of another size
            codes = self._make_key_codes(grid, like.device)
        return codes.to(like.dtype)

    def _make_key_codes(self, grid: Grid, device: torch.device) -> torch.Tensor:
        """One-hot codes of the indices along each axis of all keys, and zeros up to a multiple of
        8: ``N width``. Those of the class token are zeros."""
        codes = torch.cat([_axis_codes(grid, axis, device) for axis in self._axes()], dim=-1)
        dim = self.spec.attention_dim // self.spec.num_heads
        padding = -(dim + codes.shape[-1]) % _WIDTH_MULTIPLE
        return F.pad(codes, (0, padding, int(self.spec.class_token), 0))


def _pooled_grid(grid: Grid, kernel: Sequence[int], stride: Sequence[int]) -> Grid:
    if not kernel:
        return grid
    return tuple(pooled_size(*sizes) for sizes in zip(grid, kernel, stride))


def _axis_codes(grid: Grid, axis: int, device: torch.device) -> torch.Tensor:
    """One-hot code of the index along ``axis`` of every position of ``grid``: ``N grid[axis]``."""
    codes = torch.eye(grid[axis], device=device)
    shape = [1, 1, 1, grid[axis]]
    shape[axis] = grid[axis]
    return codes.view(shape).expand(*grid, -1).flatten(0, 2)


def relative_table(
    table: torch.Tensor, num_queries: int, num_keys: int, index: torch.Tensor | None = None
) -> torch.Tensor:
    """Table ``L c`` of relative positions -> one vector per pair, ``num_queries num_keys c``.

    Row ``i`` of a table of ``2 * n - 1`` rows is the distance ``i - (n - 1)``. A table of another
    length is resized linearly, as published. ``index`` is that of :func:`relative_index`.
    """
    length = 2 * max(num_queries, num_keys) - 1
    if table.shape[0] != length:
        table = resize_rel_pos(table, length)
    if index is None:
        index = relative_index(num_queries, num_keys, table.device)
    return table[index]


def relative_index(
    num_queries: int, num_keys: int, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Row of the table for each pair, ``num_queries num_keys``.

    Where queries and keys have different resolutions, distances are those of the finer one,
    rounded towards zero in float32, as published.
    """
    q_ratio, k_ratio = max(num_keys / num_queries, 1.0), max(num_queries / num_keys, 1.0)
    if q_ratio.is_integer() and k_ratio.is_integer():  # exact, whoever compiles it
        q_ratio, k_ratio = int(q_ratio), int(k_ratio)
    rows = torch.arange(num_queries, device=device)[:, None] * q_ratio
    columns = torch.arange(num_keys, device=device)[None] * k_ratio
    return (rows - columns + (num_keys - 1) * k_ratio).long()


class PoolingBlock(nn.Module):
    """Pooling attention and MLP, each after a norm; the skip path is max-pooled."""

    def __init__(self, spec: PoolingSpec):
        super().__init__()
        self.spec = spec
        width = spec.attention_dim
        self.norm1 = nn.LayerNorm(spec.dim, eps=1e-6)
        self.attn = PoolingAttention(spec)
        self.drop_path = DropPath(spec.drop_path) if spec.drop_path > 0 else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, int(width * spec.mlp_ratio), spec.dim_out, drop=spec.drop)
        self.gamma_1 = self.gamma_2 = None
        if spec.layer_scale > 0:
            self.gamma_1 = nn.Parameter(torch.full((width,), spec.layer_scale))
            self.gamma_2 = nn.Parameter(torch.full((spec.dim_out,), spec.layer_scale))
        if spec.dim != spec.dim_out:
            self.proj = nn.Linear(spec.dim, spec.dim_out)
        self.pool_skip = None
        if math.prod(spec.stride_q) > 1:
            kernel = [s + 1 if s > 1 else s for s in spec.stride_q]
            padding = [k // 2 for k in kernel]
            self.pool_skip = nn.MaxPool3d(kernel, list(spec.stride_q), padding)

    def forward(self, x: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Tokens ``B N C`` of ``grid`` -> tokens of the next grid (:meth:`next_grid`)."""
        spec = self.spec
        widens = spec.dim != spec.dim_out
        normed = self.norm1(x)
        y, _ = self.attn(normed, grid)
        if widens and spec.widen_in_attention:
            x = self.proj(normed)
        x, _ = pool_tokens(x.unsqueeze(1), self.pool_skip, None, grid, spec.class_token)
        x = x.squeeze(1)
        x = x + self.drop_path(y if self.gamma_1 is None else self.gamma_1 * y)
        normed = self.norm2(x)
        y = self.mlp(normed)
        if widens and not spec.widen_in_attention:
            x = self.proj(normed)
        return x + self.drop_path(y if self.gamma_2 is None else self.gamma_2 * y)

    def next_grid(self, grid: Grid) -> Grid:
        """Grid of the tokens that leave the block for tokens of ``grid``."""
        if not self.spec.kernel_q:
            return grid
        sizes = zip(grid, self.spec.kernel_q, self.spec.stride_q)
        return tuple(pooled_size(size, kernel, stride) for size, kernel, stride in sizes)
