"""The way back through the transformers of this package: shares of the places of a clip.

Each function takes a :class:`Trace`, the network and the shape of the clip, and gives shares
``B T' h w`` of the network's grid of patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from slowfast.layers.pooling_attention import Grid, PoolingSpec, pooled_size
from slowfast.layers.stfm import PATCH
from slowfast.models.looks.trace import Trace, all_tokens, first_token, unpool

if TYPE_CHECKING:
    from slowfast.models.mvit import MViT
    from slowfast.models.rev_mvit import ReversibleMViT
    from slowfast.models.stam import Stam
    from slowfast.models.stfm_model import StfmModel
    from slowfast.models.timesformer import TimeSformer
    from slowfast.models.uniformer import Uniformer

Shape = tuple[int, ...]


def _names(prefix: str, blocks: Any) -> list[str]:
    return [f"{prefix}.{number}" for number in range(len(blocks))]


# -- STFM ------------------------------------------------------------------------------------


def chosen_patches(trace: Trace) -> torch.Tensor:
    """Numbers of the patches that STFM chose, ``B T' N``, row by row in each frame."""
    (first,) = trace.record.choices["stfm.tokenselector"]
    (later,) = trace.record.choices["stfm.chain"]
    return torch.cat([first.unsqueeze(1), later], dim=1).cpu()


def patch_stride(model: StfmModel) -> int:
    """Pixels between neighbouring patches of STFM."""
    return model.stfm.patch_embed.proj.stride[-1]


def trace_stfm(trace: Trace, model: StfmModel, shape: Shape) -> torch.Tensor:
    """Back to the chosen tokens, whose shares lie on the pixels of their patches. The blocks before
    the module only give it frames to choose from."""
    chosen = chosen_patches(trace)
    b, t, n = chosen.shape
    shares = all_tokens(b, t * n)
    for name in trace.backwards(_names("blocks40", model.blocks40)):
        shares = trace.through(shares, f"{name}.attn")
    trace.token_shares = shares.view(b, t, n)
    stride = patch_stride(model)
    cells = PATCH // stride  # cells of stride x stride pixels along one side of a patch
    side = (shape[-1] - PATCH) // stride + 1
    patches = torch.zeros(b, t, side * side).scatter_add_(2, chosen, trace.token_shares)
    columns = patches.view(b * t, 1, -1).expand(-1, cells**2, -1) / cells**2
    maps = F.fold(columns, side + cells - 1, cells)
    return maps.view(b, t, *maps.shape[-2:])


# -- networks over frames of patches ---------------------------------------------------------


def trace_timesformer(trace: Trace, model: TimeSformer, shape: Shape) -> torch.Tensor:
    """TimeSformer; divided blocks go back through space, then through time."""
    if model.stfm_options:
        return trace_stfm(trace, model, shape)
    b, _, t, height, width = shape
    patch = model.patch_embed.patch_size
    h, w = height // patch, width // patch
    kind = model.attention_type
    names = _names("blocks", model.blocks)
    if kind == "space_only":
        shares = first_token(b * t, 1 + h * w, 1 / t)
    else:
        shares = first_token(b, 1 + h * w * t)
    for name in trace.backwards(names):
        if kind == "divided_space_time":
            shares = _divided_block(trace, name, shares, t)
        else:
            shares = trace.through(shares, f"{name}.attn")
    if kind == "space_only":
        return shares[:, 1:].reshape(b, t, h, w)
    return rearrange(shares[:, 1:], "b (h w t) -> b t h w", h=h, w=w)


def _divided_block(trace: Trace, name: str, shares: torch.Tensor, t: int) -> torch.Tensor:
    """Shares ``B 1+S*T``. The class token stands in every frame and is the mean of its results."""
    b = len(shares)
    patches = rearrange(shares[:, 1:], "b (s t) -> (b t) s", t=t)
    token = (shares[:, :1] / t).expand(-1, t).reshape(b * t, 1)
    frames = trace.through(torch.cat([token, patches], dim=1), f"{name}.attn")
    token = frames[:, 0].view(b, t).sum(1, keepdim=True)
    over_time = rearrange(frames[:, 1:], "(b t) s -> (b s) t", b=b)
    over_time = trace.through(over_time, f"{name}.temporal_attn")
    return torch.cat([token, over_time.reshape(b, -1)], dim=1)


def trace_stam(trace: Trace, model: Stam, shape: Shape) -> torch.Tensor:
    """STAM: the frames' shares, by the transformer over frames, then the patches of each frame."""
    b, _, t, height, width = shape
    patch = model.patch_embed.patch_size
    frames = all_tokens(b, t)
    if hasattr(model.aggregate, "transformer_enc"):
        tokens = first_token(b, 1 + t)
        prefix = "aggregate.transformer_enc.layers"
        for name in trace.backwards(_names(prefix, model.aggregate.transformer_enc.layers)):
            tokens = trace.through(tokens, f"{name}.self_attn")
        frames = tokens[:, 1:]
    h, w = height // patch, width // patch
    shares = first_token(b * t, 1 + h * w) * frames.reshape(b * t, 1)
    for name in trace.backwards(_names("blocks", model.blocks)):
        shares = trace.through(shares, f"{name}.attn")
    return shares[:, 1:].reshape(b, t, h, w)


# -- networks over grids that shrink ---------------------------------------------------------


def trace_uniformer(trace: Trace, model: Uniformer, shape: Shape) -> torch.Tensor:
    """UniFormer's two stages with attention; the grid is that of stage 3."""
    if model.stfm_options:
        return trace_stfm(trace, model, shape)
    record = trace.record
    last = _names("blocks4", model.blocks4)
    grid = record.shapes["patch_embed4"]
    maps = torch.full((grid[0], *grid[2:]), 1 / math.prod(grid[2:]))
    for name in trace.backwards([*_names("blocks3", model.blocks3), *last]):
        if name not in last and maps.shape[-1] != record.shapes[name][-1]:
            maps = unpool(maps, record.shapes[name][2:])
        maps = _global_block(trace, name, maps)
    return maps


def _global_block(trace: Trace, name: str, maps: torch.Tensor) -> torch.Tensor:
    """Shares ``B T H W``. Blocks with split attention go back through space, then through time;
    their skip connection leads past both."""
    if f"{name}.t_attn" not in trace.record.attention:
        return trace.through(maps.flatten(1), f"{name}.attn").view_as(maps)
    if trace.skip == 1:
        return maps
    b, t, h, w = maps.shape
    space = trace.attend(maps.reshape(b * t, h * w), f"{name}.attn")
    over_time = rearrange(space, "(b t) s -> (b s) t", b=b)
    over_time = trace.through(over_time, f"{name}.t_attn")
    attended = rearrange(over_time, "(b h w) t -> b t h w", h=h, w=w)
    return trace.skip * maps + (1 - trace.skip) * attended


def trace_mvit(trace: Trace, model: MViT, shape: Shape) -> torch.Tensor:
    """MViT: shares of pooled queries and keys are spread over the positions before the pooling."""
    if model.stfm_options:
        return trace_stfm(trace, model, shape)
    mean = model.options.use_mean_pooling
    return _through_pooling(trace, model, "blocks", model.blocks, "attn", mean)


def trace_reversible(trace: Trace, model: ReversibleMViT, shape: Shape) -> torch.Tensor:
    """Reversible MViT: both streams have the same positions, and share what comes from them."""
    blocks = model.rev_backbone.layers
    return _through_pooling(trace, model, "rev_backbone.layers", blocks, "F.attn", True)


def _through_pooling(
    trace: Trace,
    model: MViT | ReversibleMViT,
    prefix: str,
    blocks: Sequence[nn.Module],
    attention: str,
    mean_pooling: bool,
) -> torch.Tensor:
    """Shares ``B T h w`` of the first grid. ``attention``: name of that part of a block;
    ``mean_pooling``: the class token, if there is one, does not give the answer."""
    cls, stem = int(model.options.cls_embed_on), trace.record.shapes["patch_embed.proj"]
    grids: list[Grid] = [tuple(stem[2:]) if len(stem) == 5 else (1, *stem[2:])]
    for block in blocks:
        grids.append(_pooled(grids[-1], block.spec.kernel_q, block.spec.stride_q))
    b, tokens = stem[0], cls + math.prod(grids[-1])
    if cls and not mean_pooling:
        shares = first_token(b, tokens)
    else:
        shares = torch.cat([torch.zeros(b, cls), all_tokens(b, tokens - cls)], dim=1)
    for name in trace.backwards(_names(prefix, blocks)):
        number = int(name.rsplit(".", 1)[1])
        spec = blocks[number].spec
        shares = _pooling_block(trace, f"{name}.{attention}", spec, shares, grids[number])
    return shares[:, cls:].view(b, *grids[0])


def _pooled(grid: Grid, kernel: Shape, stride: Shape) -> Grid:
    return tuple(map(pooled_size, grid, kernel, stride)) if kernel else grid


def _pooling_block(
    trace: Trace, name: str, spec: PoolingSpec, shares: torch.Tensor, grid: Grid
) -> torch.Tensor:
    """Shares of the tokens that leave the block -> of those of ``grid`` that enter it."""
    cls = int(spec.class_token)

    def before_pooling(x: torch.Tensor, kernel: Shape, stride: Shape) -> torch.Tensor:
        patches = unpool(x[:, cls:].view(len(x), *_pooled(grid, kernel, stride)), grid)
        return torch.cat([x[:, :cls], patches.flatten(1)], dim=1)

    skipped = before_pooling(shares, spec.kernel_q, spec.stride_q)
    if trace.skip == 1:
        return skipped
    attended = before_pooling(trace.attend(shares, name), spec.kernel_kv, spec.stride_kv)
    return trace.skip * skipped + (1 - trace.skip) * attended
