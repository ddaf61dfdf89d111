"""What networks built on a ViT over frames share: keys of their sizes, initialisation, weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key
from slowfast.layers.positions import resize_pos_embed_nearest, sincos_scaled, sincos_scaled_2d
from slowfast.models.base import VideoModel
from slowfast.models.spec import State, WeightSource
from slowfast.models.stfm_model import STFM_PARTS, has_stfm, last_blocks_to_stfm
from slowfast.utils.errors import Problem

VIT_KEYS = {
    "PATCH_SIZE": Key(16, "Side of a patch in pixels.", ge=1),
    "STEM": Key(
        "patch",
        "How pixels become a patch: patch (one linear map), conv (3x3 convolutions; learns faster "
        "without pretraining) or conv3d (3x3x3: they see motion within a patch).",
        choices=("patch", "conv", "conv3d"),
    ),
    "EMBED_DIM": Key(768, "Channels of the tokens.", ge=1),
    "DEPTH": Key(12, "Number of blocks.", ge=1),
    "NUM_HEADS": Key(12, "Attention heads.", ge=1),
    "MLP_RATIO": Key(4.0, "Width of the MLPs relative to the channels.", gt=0.0),
    "INIT": Key(
        "published",
        "Initialisation: published (for 768 channels that start from ImageNet weights) or scratch "
        "(for small networks without such weights: linear layers scaled by their width, positions "
        "in space and time from sines and cosines).",
        choices=("published", "scratch"),
    ),
}


def check_vit(cfg: CfgNode, section: str) -> Iterable[Problem]:
    """Widths that heads divide, crops that patches divide."""
    options = cfg[section]
    if options.EMBED_DIM % options.NUM_HEADS:
        yield Problem(
            f"{options.EMBED_DIM} channels cannot be divided among {options.NUM_HEADS} heads",
            f"change {section}.NUM_HEADS",
            f"{section}.EMBED_DIM",
        )
    if options.INIT == "scratch" and options.EMBED_DIM % 4:
        yield Problem(
            f"{options.EMBED_DIM} channels are no multiple of 4",
            f"{section}.INIT scratch needs sines and cosines for rows and columns",
            f"{section}.EMBED_DIM",
        )
    for key, used in (("TRAIN_CROP_SIZE", True), ("TEST_CROP_SIZE", cfg.TEST.ENABLE)):
        size = cfg.DATA[key]
        if used and size % options.PATCH_SIZE:
            below = max(size // options.PATCH_SIZE, 1) * options.PATCH_SIZE
            yield Problem(
                f"{size} is no multiple of {section}.PATCH_SIZE {options.PATCH_SIZE}",
                f"use {below} or {below + options.PATCH_SIZE}",
                f"DATA.{key}",
            )


@torch.no_grad()
def init_from_scratch(
    model: nn.Module,
    temporal_pos: nn.Parameter | None,
    *,
    spatial_scale: float,
    token_std: float = 0.0,
) -> None:
    """INIT scratch; ``temporal_pos``: position embedding of the frames, ``1 T C``.

    ``spatial_scale`` is the amplitude of the positions in space. Those in time have amplitude 1,
    because the order of frames is hardest to learn. ``token_std`` initialises class tokens, 0
    leaves them as they are. Zero-initialised layers stay so.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.weight.any():
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, nn.MultiheadAttention):
            nn.init.normal_(module.in_proj_weight, std=module.embed_dim**-0.5)
    side = math.isqrt(model.pos_embed.shape[1] - 1)
    model.pos_embed[0, 1:] = spatial_scale * sincos_scaled_2d(side, model.pos_embed.shape[2])
    if temporal_pos is not None:
        temporal_pos.copy_(sincos_scaled(*temporal_pos.shape[-2:]))
    for name, parameter in model.named_parameters():
        if token_std and name.endswith("cls_token"):
            parameter.normal_(std=token_std)


def layer_of_block(model: VideoModel, name: str) -> int:
    """Layer of a parameter for ``SOLVER.LAYER_DECAY``.

    Class token, positions in space and patch embedding are layer 0, ``blocks.i`` is ``i + 1``,
    ``blocks40`` (behind STFM) continues the count. Everything else is the last layer,
    the positions in time of TimeSformer too (PySlowFast's rule does not know them).
    """
    num_plain = len(model.blocks)
    if name in ("cls_token", "mask_token") or name.startswith(("pos_embed", "patch_embed")):
        return 0
    first, _, rest = name.partition(".")
    if first == "blocks":
        return int(rest.split(".")[0]) + 1
    if first == "blocks40":
        return num_plain + int(rest.split(".")[0]) + 1
    return num_plain + len(getattr(model, "blocks40", ())) + 1


# -- weights ---------------------------------------------------------------------------------

_NOT_VIT = (".attn.pool_", ".attn.rel_pos_", ".temporal_", "aggregate.")  # MViT, TimeSformer, STAM


def is_vit(state: State) -> bool:
    """Whether a state dict is that of an ImageNet ViT of timm."""
    required = {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"}
    return (
        required <= set(state)
        and state["patch_embed.proj.weight"].ndim == 4
        and "time_embed" not in state
        and "head.projection.weight" not in state
        and not has_stfm(state)
        and not any(part in name for name in state for part in _NOT_VIT)
    )


def vit_to_video(state: State, model: VideoModel) -> State:
    """Attention over time starts as a copy of attention over space (TimeSformer)."""
    own_names = set(model.state_dict())
    adapted = dict(state)
    for name, value in state.items():
        for space, time in ((".attn.", ".temporal_attn."), (".norm1.", ".temporal_norm1.")):
            if space in name and name.replace(space, time) in own_names:
                adapted[name.replace(space, time)] = value
    return last_blocks_to_stfm(adapted, model)


VIT_SOURCE = WeightSource(
    "ViT (ImageNet, timm)",
    is_vit,
    vit_to_video,
    (*STFM_PARTS, "time_embed", "temporal_fc.", "aggregate."),
)


def resize_square_pos_embed(
    name: str, tensor: torch.Tensor, shape: tuple[int, ...]
) -> torch.Tensor | None:
    """``pos_embed`` ``1 1+N C`` of one square grid for another one, nearest neighbour."""
    if name != "pos_embed" or tensor.ndim != 3 or tensor.shape[2:] != shape[2:]:
        return None
    side, old_side = math.isqrt(shape[1] - 1), math.isqrt(tensor.shape[1] - 1)
    if side**2 + 1 != shape[1] or old_side**2 + 1 != tensor.shape[1]:
        return None
    return resize_pos_embed_nearest(tensor, side, side)
