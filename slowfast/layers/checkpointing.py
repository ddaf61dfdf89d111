"""Activation checkpointing: blocks that are computed again in the backward pass to save memory.

Blocks that are marked by :func:`keep_products` keep the results of matrix products, convolutions
and attention, which take most of the time and about half of the memory, and compute the rest again.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
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
Contexts = tuple[contextlib.AbstractContextManager, contextlib.AbstractContextManager]


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
            options: dict[str, Any] = {"use_reentrant": False}
            if getattr(block, "keeps_products", False):
                options["context_fn"] = _selective_contexts
            # A compiled network updates running statistics once, whatever it computes again.
            if not torch.compiler.is_compiling():
                options["context_fn"] = _learning_once(block, **options)
            x = checkpoint(block, x, *extra, **options)
        else:
            x = block(x, *extra)
    return x


def _learning_once(
    block: nn.Module, context_fn: Callable[[], Contexts] = noop_context_fn, **_: object
) -> Callable[[], Contexts]:
    """The contexts in which ``block`` is computed at first and again, where the running statistics
    of its batch normalisation learn only at first."""
    norms = _running_norms(block)

    def contexts() -> Contexts:
        first, again = context_fn()
        return first, _without_learning(again, norms)

    return contexts if norms else context_fn


def _running_norms(block: nn.Module) -> list[_BatchNorm]:
    return [
        module
        for module in block.modules()
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
    ]


@contextlib.contextmanager
def _without_learning(
    context: contextlib.AbstractContextManager, norms: Sequence[_BatchNorm]
) -> Iterator[None]:
    """``context`` in which ``norms`` normalise as ever, but learn nothing: the running statistics
    know the batch already."""
    known = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, counter in known:
        norm.momentum, norm.num_batches_tracked = 0.0, counter.clone()
    try:
        with context:
            yield
    finally:
        for norm, momentum, counter in known:
            norm.momentum, norm.num_batches_tracked = momentum, counter


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
