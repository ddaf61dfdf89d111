"""Reversible blocks of pooling attention (Reversible Vision Transformers, arXiv 2302.04869).

A reversible block maps a pair (a, b) of tokens ``B N C`` to ``a' = a + F(b)``, ``b' = b + G(a')``,
from which (a, b) can be computed again. So a run of them keeps its last pair instead of the
activations of every block. Between two runs a transition changes grid and width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from timm.layers import Mlp, drop_path
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import get_device_states, set_device_states

from slowfast.layers.pooling_attention import Grid, PoolingAttention, PoolingSpec, pool_tokens
from slowfast.utils.errors import UserError

_HALVES = {
    "add": lambda a, b: a + b,
    "avg": lambda a, b: (a + b) / 2,
    "max": torch.maximum,
    "min": torch.minimum,
}
FUSIONS = (*_HALVES, "concat", "concat_linear", "ln+concat_linear")


class TwoStreamFusion(nn.Module):
    """A pair ``B N 2C`` -> one stream: ``B N C`` (add, avg, max, min) or ``B N 2C``.

    ``concat`` leaves the pair as it is; ``concat_linear`` adds an MLP of it, whose hidden width is
    ``concat_linear_<factor>_<dropout>`` times the pair's; ``ln+concat_linear…`` normalises before.
    """

    def __init__(self, mode: str, pair_dim: int):
        super().__init__()
        self.mode, *numbers = mode.replace("concat_linear", "concat-linear").split("_")
        self.mode = self.mode.replace("-", "_")
        try:
            factor, drop = ([float(number) for number in numbers] + [1.0, 0.0][len(numbers) :])[:2]
            known = self.mode in FUSIONS and len(numbers) <= 2 * ("linear" in self.mode)
        except ValueError:
            known = False
        if not known:
            raise UserError(
                f"{mode!r} is no fusion of two streams",
                f"choose among {', '.join(FUSIONS)}; the last two may have numbers, as in "
                "concat_linear_2_0.1",
            )
        self.doubles = "concat" in self.mode
        if "linear" in self.mode:
            mlp = Mlp(pair_dim, int(pair_dim * factor), drop=drop)
            normed = self.mode.startswith("ln+")
            self.fuse_fn = nn.Sequential(nn.LayerNorm(pair_dim), mlp) if normed else mlp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B N 2C`` -> ``B N C`` or ``B N 2C``."""
        if self.mode in _HALVES:
            return _HALVES[self.mode](*x.chunk(2, dim=-1))
        return x if self.mode == "concat" else x + self.fuse_fn(x)


class _Attention(nn.Module):
    """Pooling attention after a norm: F."""

    def __init__(self, spec: PoolingSpec):
        super().__init__()
        self.norm = nn.LayerNorm(spec.dim, eps=1e-6)
        self.attn = PoolingAttention(spec)

    def forward(self, x: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Tokens ``B N C`` of ``grid`` -> tokens of the queries' grid."""
        return self.attn(self.norm(x), grid)[0]


class _Mlp(nn.Module):
    """An MLP after a norm: G."""

    def __init__(self, spec: PoolingSpec):
        super().__init__()
        self.norm = nn.LayerNorm(spec.dim_out, eps=1e-6)
        self.mlp = Mlp(spec.dim_out, int(spec.dim_out * spec.mlp_ratio))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B N C`` -> ``B N C``."""
        return self.mlp(self.norm(x))


class StageTransition(nn.Module):
    """A pair -> one stream of another grid and width; stores its activations."""

    is_reversible = False

    def __init__(self, spec: PoolingSpec, fusion: str):
        super().__init__()
        self.pre_q_fuse = TwoStreamFusion(fusion, 2 * spec.dim)
        if self.pre_q_fuse.doubles:
            spec = replace(spec, dim=2 * spec.dim)
        self.spec = spec
        self.F, self.G = _Attention(spec), _Mlp(spec)
        if spec.dim != spec.dim_out:
            self.res_proj = nn.Linear(spec.dim, spec.dim_out)

    def forward(self, x: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, Grid]:
        """Pair ``B N 2C`` of ``grid`` -> (tokens ``B N' C'``, their grid)."""
        spec, attn = self.spec, self.F.attn
        x = self.pre_q_fuse(x)
        project = self.res_proj if spec.dim != spec.dim_out else nn.Identity()
        skip = x if spec.pool_first else project(x)
        heads = 1 if spec.mode == "conv_unshared" else spec.num_heads
        skip = skip.unflatten(-1, (heads, -1)).transpose(1, 2)
        skip, new_grid = pool_tokens(skip, attn.pool_q, attn.norm_q, grid, False)
        skip = skip.transpose(1, 2).flatten(2)
        x = (project(skip) if spec.pool_first else skip) + self.F(x, grid)
        x = x + self.G(x)
        return drop_path(x, spec.drop_path, self.training), new_grid


class ReversibleBlock(nn.Module):
    """Keeps grid and width."""

    is_reversible = True

    def __init__(self, spec: PoolingSpec):
        super().__init__()
        self.spec = spec
        self.F, self.G = _Attention(spec), _Mlp(spec)

    def draw(self, x: torch.Tensor) -> _Draw:
        """What is random in a pass over ``x``: one drop-path mask for both branches, and the state
        of the generators before the dropout of the attention."""
        spec, mask = self.spec, None
        if self.training and spec.drop_path > 0:
            kept = 1 - spec.drop_path
            mask = x.new_empty(len(x), 1, 1).bernoulli_(kept).div_(kept)
        seeded = self.training and spec.drop > 0
        return _Draw(mask, _RngState.now(x) if seeded else None)

    def attend(self, b: torch.Tensor, grid: Grid, draw: _Draw) -> torch.Tensor:
        """F(b), dropped where the mask is zero."""
        x = self.F(b, grid)
        return x if draw.mask is None else x * draw.mask

    def feed(self, a: torch.Tensor, draw: _Draw) -> torch.Tensor:
        """G(a), dropped where the mask is zero."""
        x = self.G(a)
        return x if draw.mask is None else x * draw.mask

    def forward(
        self, a: torch.Tensor, b: torch.Tensor, grid: Grid, draw: _Draw
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A pair ``B N C`` each -> the next pair."""
        a = a + self.attend(b, grid, draw)
        return a, b + self.feed(a, draw)


@dataclass(frozen=True)
class _Draw:
    """Random parts of a pass through a block."""

    mask: torch.Tensor | None
    rng: _RngState | None


def run_reversible(
    blocks: Sequence[ReversibleBlock], x: torch.Tensor, grid: Grid, stored: bool = False
) -> torch.Tensor:
    """The pair (x, x) of tokens ``B N C`` through ``blocks``, joined: ``B N 2C``.

    In training only the last pair is kept, and the others are computed again in the backward pass;
    ``stored``: all activations are kept instead, as in an ordinary network. A compiled network does
    the same: what is computed again in the backward pass is no part of a graph.
    Under autocast the pair is float32.
    """
    stored = stored or torch.compiler.is_compiling()
    if not x.is_meta and torch.is_autocast_enabled(x.device.type):
        x = x.float()  # what is rounded to 16 bits cannot be computed again
    if stored or not (torch.is_grad_enabled() and any(block.training for block in blocks)):
        a = b = x
        for block in blocks:
            a, b = block(a, b, grid, block.draw(x))
        return torch.cat([a, b], dim=-1)
    trained = [p for block in blocks for p in block.parameters() if p.requires_grad]
    return _Reversible.apply(blocks, grid, x, *trained)


class _Reversible(torch.autograd.Function):
    """A run of reversible blocks. Parameters are arguments, so that their gradients go the usual
    way, through hooks of DistributedDataParallel as well."""

    @staticmethod
    def forward(
        ctx: Any,
        blocks: Sequence[ReversibleBlock],
        grid: Grid,
        x: torch.Tensor,
        *trained: nn.Parameter,
    ) -> torch.Tensor:
        ctx.blocks, ctx.grid = blocks, grid
        ctx.autocast = _autocast_like_now(x.device.type)
        ctx.draws = []
        a = b = x
        for block in blocks:
            draw = block.draw(x)
            ctx.draws.append(draw)
            a, b = block(a, b, grid, draw)
        pair = torch.cat([a, b], dim=-1)
        ctx.save_for_backward(pair)
        return pair

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (pair,) = ctx.saved_tensors
        (a, b), (grad_a, grad_b) = pair.chunk(2, dim=-1), grad.chunk(2, dim=-1)
        grads: dict[nn.Parameter, torch.Tensor | None] = {}
        for block, draw in zip(reversed(ctx.blocks), reversed(ctx.draws)):
            y, grad_in = _again(ctx, block.G, a, partial(block.feed, draw=draw), grad_b, grads)
            b, grad_a = b - y, grad_a + grad_in
            with _replayed(draw.rng, a.device):
                attend = partial(block.attend, grid=ctx.grid, draw=draw)
                y, grad_in = _again(ctx, block.F, b, attend, grad_a, grads)
            a, grad_b = a - y, grad_b + grad_in
        trained = [p for block in ctx.blocks for p in block.parameters() if p.requires_grad]
        return None, None, grad_a + grad_b, *(grads.get(parameter) for parameter in trained)


def _again(
    ctx: Any,
    part: nn.Module,
    x: torch.Tensor,
    function: Callable[[torch.Tensor], torch.Tensor],
    grad: torch.Tensor,
    grads: dict[nn.Parameter, torch.Tensor | None],
) -> tuple[torch.Tensor, torch.Tensor]:
    """(function(x), gradient of x); the gradients of the parameters of ``part`` go to ``grads``."""
    parameters = [p for p in part.parameters() if p.requires_grad]
    with torch.enable_grad(), ctx.autocast():
        x = x.detach().requires_grad_()
        y = function(x)
    grad_x, *others = torch.autograd.grad(y, [x, *parameters], grad.to(y.dtype), allow_unused=True)
    grads.update(zip(parameters, others))
    return y.detach(), grad_x


def _autocast_like_now(device_type: str) -> Callable[[], torch.autocast]:
    """A function that gives an autocast context as the present one."""
    enabled = torch.is_autocast_enabled(device_type)
    dtype = torch.get_autocast_dtype(device_type)
    return lambda: torch.autocast(device_type, dtype, enabled)


@dataclass(frozen=True)
class _RngState:
    """The random generators of the CPU and of the device of a tensor."""

    cpu: torch.Tensor
    devices: list[int]
    states: list[torch.Tensor]

    @classmethod
    def now(cls, x: torch.Tensor) -> _RngState:
        return cls(torch.get_rng_state(), *get_device_states(x))


@contextlib.contextmanager
def _replayed(state: _RngState | None, device: torch.device) -> Iterator[None]:
    """A context with the generators in ``state``; afterwards they go on as if it had not been."""
    if state is None:
        yield
        return
    with torch.random.fork_rng(state.devices, device_type=device.type):
        torch.set_rng_state(state.cpu)
        set_device_states(state.devices, state.states, device_type=device.type)
        yield
