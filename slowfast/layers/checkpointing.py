"""Activation checkpointing: blocks that are computed again in the backward pass to save memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def run_checkpointed(
    blocks: Iterable[nn.Module], x: torch.Tensor, num_checkpointed: float, *extra: object
) -> torch.Tensor:
    """Run ``x`` through ``blocks``; the first ``num_checkpointed`` store no activations.

    ``extra`` goes to every block after ``x``. ``math.inf`` checkpoints all blocks.
    """
    for number, block in enumerate(blocks):
        if number < num_checkpointed and torch.is_grad_enabled():
            x = checkpoint(block, x, *extra, use_reentrant=False)
        else:
            x = block(x, *extra)
    return x


def checkpointed_blocks(
    num_stages: int, *, every_block: bool = False, per_stage: Sequence[int] = ()
) -> tuple[float, ...]:
    """Number of checkpointed blocks of each of ``num_stages`` stages.

    ``every_block`` gives ``math.inf``; otherwise missing entries of ``per_stage`` are 0 and
    superfluous ones are ignored.
    """
    if every_block:
        return (math.inf,) * num_stages
    return (*per_stage, *[0] * num_stages)[:num_stages]
