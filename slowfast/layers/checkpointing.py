"""Running blocks one after the other, recomputing activations of some in the backward pass."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def run_blocks(
    blocks: Iterable[nn.Module], x: torch.Tensor, recomputed: int, *extra: torch.Tensor
) -> torch.Tensor:
    """``x`` through ``blocks``; the first ``recomputed`` keep no activations."""
    for number, block in enumerate(blocks):
        if number < recomputed and torch.is_grad_enabled():
            x = checkpoint(block, x, *extra, use_reentrant=False)
        else:
            x = block(x, *extra)
    return x


def recomputed_blocks(model_cfg: object, stages: int) -> list[int]:
    """Blocks of each stage that MODEL asks to recompute."""
    if model_cfg.ACT_CHECKPOINT:
        return [10**6] * stages
    if not model_cfg.USE_CHECKPOINT:
        return [0] * stages
    given = list(model_cfg.CHECKPOINT_NUM)
    return (given + [0] * stages)[:stages]
