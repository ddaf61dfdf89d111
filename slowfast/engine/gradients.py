"""Gradients as autograd leaves them."""

from __future__ import annotations

from torch import nn


def separate_gradients(model: nn.Module) -> None:
    """Give every parameter a gradient of its own.

    In ``x + a + b`` with a batch of one clip, ``x``, ``a`` and ``b`` have the same gradient, and
    PyTorch may let ``a.grad`` and ``b.grad`` be views of one tensor (seen in 2.15, where one of the
    two is expanded or reshaped before). What accumulates or clips gradients in place, would change
    it twice.
    """
    seen: set[tuple[int, int]] = set()
    for parameter in model.parameters():
        if parameter.grad is None or not parameter.grad.numel():
            continue
        # The address of the memory, which tensors without data have, too.
        place = (parameter.grad.untyped_storage()._cdata, parameter.grad.storage_offset())
        if place in seen:
            parameter.grad = parameter.grad.clone()
        seen.add(place)
