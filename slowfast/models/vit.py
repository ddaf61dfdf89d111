"""What networks built on a ViT over frames share: the keys of its size, and what it asks for."""

from __future__ import annotations

from collections.abc import Iterable

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key
from slowfast.utils.errors import Problem

VIT_KEYS = {
    "PATCH_SIZE": Key(16, "Side of a patch in pixels.", ge=1),
    "EMBED_DIM": Key(768, "Channels.", ge=1),
    "DEPTH": Key(12, "Blocks.", ge=1),
    "NUM_HEADS": Key(12, "Attention heads.", ge=1),
    "MLP_RATIO": Key(4.0, "Width of the MLPs relative to the channels.", gt=0.0),
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
    for key, used in (("TRAIN_CROP_SIZE", True), ("TEST_CROP_SIZE", cfg.TEST.ENABLE)):
        size = cfg.DATA[key]
        if used and size % options.PATCH_SIZE:
            below = max(size // options.PATCH_SIZE, 1) * options.PATCH_SIZE
            yield Problem(
                f"{size} is no multiple of {section}.PATCH_SIZE {options.PATCH_SIZE}",
                f"use {below} or {below + options.PATCH_SIZE}",
                f"DATA.{key}",
            )
