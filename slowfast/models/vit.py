"""What networks built on a ViT over frames share: the keys of its size, and what it asks for."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key
from slowfast.layers.positions import waves, waves_2d
from slowfast.models.base import VideoModel
from slowfast.utils.errors import Problem

VIT_KEYS = {
    "PATCH_SIZE": Key(16, "Side of a patch in pixels.", ge=1),
    "EMBED_DIM": Key(768, "Channels.", ge=1),
    "DEPTH": Key(12, "Blocks.", ge=1),
    "NUM_HEADS": Key(12, "Attention heads.", ge=1),
    "MLP_RATIO": Key(4.0, "Width of the MLPs relative to the channels.", gt=0.0),
    "INIT": Key(
        "published",
        "First weights: as published (made for 768 channels that come from ImageNet), or scratch, "
        "for small networks without such a start: linear layers by their width, positions in "
        "space and time from sines.",
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
    model: nn.Module, over_time: nn.Parameter | None, space: float, token: float = 0.0
) -> None:
    """INIT scratch; ``over_time``: positions of the frames, ``1 T C``.

    ``space`` is the size of the positions in space (those in time have 1: order is hardest to
    find), ``token`` that of class tokens, 0 leaves them as they are. Layers that begin at zero
    stay so.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.weight.any():
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, nn.MultiheadAttention):
            nn.init.normal_(module.in_proj_weight, std=module.embed_dim**-0.5)
    grid = waves_2d(math.isqrt(model.pos_embed.shape[1] - 1), model.pos_embed.shape[2])
    model.pos_embed[0, 1:] = space * grid
    if over_time is not None:
        over_time.copy_(waves(*over_time.shape[-2:]))
    for name, parameter in model.named_parameters():
        if token and name.endswith("cls_token"):
            parameter.normal_(std=token)


def layer_of_block(model: VideoModel, name: str) -> int:
    """Layer of a parameter for ``SOLVER.LAYER_DECAY``.

    Class token, positions in space and patch embedding are layer 0, ``blocks.i`` is ``i + 1``,
    everything else is the last layer.
    """
    if name in ("cls_token", "mask_token") or name.startswith(("pos_embed", "patch_embed")):
        return 0
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return len(model.blocks) + 1
