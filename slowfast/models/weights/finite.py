"""Numbers that are not finite in the tensors of a file."""

from __future__ import annotations

from collections.abc import Container, Mapping

import torch

from slowfast.utils.errors import UserError
from slowfast.utils.text import shorten

_MAX_NAMES = 3


def not_finite(
    state: Mapping[str, torch.Tensor], may_be_infinite: Container[str] = ()
) -> list[str]:
    """Names of the tensors with numbers that are not finite.

    ``may_be_infinite``: names of those in which only NaN counts, such as the buffers of a network,
    which may be masks.
    """
    return [name for name, value in state.items() if not _is_good(value, name in may_be_infinite)]


def check_finite(
    state: Mapping[str, torch.Tensor],
    origin: str,
    may_be_infinite: Container[str] = (),
    key: str = "",
) -> None:
    """UserError naming the file ``origin`` if :func:`not_finite` finds something in ``state``."""
    names = not_finite(state, may_be_infinite)
    if names:
        shown = ", ".join(shorten(name, 100) for name in names[:_MAX_NAMES])
        raise UserError(
            f"{origin} holds numbers that are not finite in {len(names)} tensors (e.g. {shown})",
            "the training that wrote it had failed: take an earlier checkpoint",
            key,
        )


def _is_good(value: torch.Tensor, may_be_infinite: bool) -> bool:
    if not (value.is_floating_point() or value.is_complex()):
        return True
    # The sum is finite only if all numbers are, and costs no memory.
    if value.dtype.itemsize >= 4 and value.sum().isfinite():
        return True
    if value.dtype.itemsize < 2:  # PyTorch compares no numbers of 8 bits
        value = value.float()
    return not (value.isnan() if may_be_infinite else ~value.isfinite()).any()
