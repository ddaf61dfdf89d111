"""Batch normalisation in evaluation, folded into the convolution before it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Folded = dict[nn.Module, nn.Module]

# The folded copy of each convolution; None outside :func:`folded_norms`.
_FOLDED: ContextVar[Folded | None] = ContextVar("folded", default=None)


@contextlib.contextmanager
def folded_norms(folded: Folded | None = None) -> Iterator[None]:
    """Context of an evaluation in which weights do not change: the scale and shift of a batch
    normalisation become part of the convolution before it, once, when the pair is first met.

    The network itself stays as it is. Results differ by rounding. Networks that are compiled or
    exported are left alone: compilers fold for themselves.

    ``folded``: what earlier contexts have folded, of the same weights; the new pairs are added.
    """
    token = _FOLDED.set({} if folded is None else folded)
    try:
        yield
    finally:
        _FOLDED.reset(token)


def folded_conv(conv: nn.Module, norm: nn.Module) -> nn.Module | None:
    """The convolution that computes ``conv`` and ``norm`` at once; None where they stay two:
    outside :func:`folded_norms`, in training, and where a hook wants to see one of them."""
    if torch.compiler.is_compiling():
        return None
    folded = _FOLDED.get()
    if folded is None or not _can_fold(conv, norm):
        return None
    if conv not in folded:
        folded[conv] = fuse_conv_bn_eval(conv, norm)
    return folded[conv]


def _can_fold(conv: nn.Module, norm: nn.Module) -> bool:
    fixed = isinstance(norm, nn.BatchNorm3d) and norm.track_running_stats
    plain = fixed and not norm.training and not torch.is_grad_enabled()
    return plain and not (_hooks(conv) or _hooks(norm))


def _hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)
