"""Activation checkpointing: blocks that are computed again in the backward pass to save memory.

Blocks that are marked by :func:`keep_products` keep the results of matrix products, convolutions
and attention, which take most of the time and about half of the memory, and compute the rest again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts, noop_context_fn

_aten = torch.ops.aten
_PRODUCTS = [
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten.baddbmm.default,
    _aten.convolution.default,
    _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_cudnn_attention.default,
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
]
_selective_contexts = functools.partial(create_selective_checkpoint_contexts, _PRODUCTS)


def keep_products(network: nn.Module) -> nn.Module:
    """Mark all blocks of ``network``: if they are checkpointed, their products are kept."""
    for module in network.modules():
        module.keeps_products = True
    return network


def run_checkpointed(
    blocks: Iterable[nn.Module], x: torch.Tensor, num_checkpointed: float, *extra: object
) -> torch.Tensor:
    """Run ``x`` through ``blocks``; the first ``num_checkpointed`` store no activations, or those
    of products only.

    ``extra`` goes to every block after ``x``. ``math.inf`` checkpoints all blocks.
    """
    for number, block in enumerate(blocks):
        if number < num_checkpointed and torch.is_grad_enabled():
            keeps = getattr(block, "keeps_products", False)
            contexts = _selective_contexts if keeps else noop_context_fn
            x = checkpoint(block, x, *extra, use_reentrant=False, context_fn=contexts)
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
