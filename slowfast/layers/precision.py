"""The precision in which a layer computes."""

from __future__ import annotations

import torch


def autocast_dtype(x: torch.Tensor) -> torch.dtype:
    """The type in which matrix products of ``x`` run: autocast's where it is on, else its own."""
    kind = x.device.type
    if kind == "meta":  # has no autocast
        return x.dtype
    if torch.is_autocast_enabled(kind) and x.dtype is not torch.float64:
        return torch.get_autocast_dtype(kind)
    return x.dtype


def to_autocast(x: torch.Tensor) -> torch.Tensor:
    """``x`` in :func:`autocast_dtype`.

    Norms give float32 under autocast. Where several operations follow one, a cast before the
    first saves those of all others and halves the memory that they move.
    """
    return x.to(autocast_dtype(x))
