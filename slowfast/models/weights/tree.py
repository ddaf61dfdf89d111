"""Bounds for what a file describes besides the bytes of tensors."""

from __future__ import annotations

from typing import Any

import torch

from slowfast.models.weights.unpickle import Node, UnsupportedError

_MAX_VALUES = 1_000_000
_MAX_DEPTH = 64
_MAX_BITS = 256  # of a whole number; random generators have states of 128
# Tied weights stand in a file once and in a state dict several times.
_MAX_NAMES_PER_BYTE = 16
# Different views of the same bytes, such as a whole projection and its parts.
_MAX_VIEWS_PER_BYTE = 4
_ALLOWANCE = 1 << 20


def check_tree(content: Any, file_size: int) -> None:
    """UnsupportedError if ``content``, written out in full, is larger than what a file of
    ``file_size`` bytes holds, refers to itself, or nests too deep to be handled."""
    values = named = viewed = 0
    views: set[tuple] = set()
    level = [content]
    for _ in range(_MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, torch.Tensor):
                size = value.numel() * value.element_size()
                named += size
                view = value.data_ptr(), value.shape, value.stride(), value.dtype
                viewed += size if view not in views else 0
                views.add(view)
            elif isinstance(value, int):
                if value.bit_length() > _MAX_BITS:
                    raise UnsupportedError(f"it holds a number of {value.bit_length()} bits")
            else:
                inner += _children(value)
            if values + len(inner) > _MAX_VALUES:
                raise UnsupportedError("its values repeat or contain each other without end")
        values += len(inner)
        if named > _MAX_NAMES_PER_BYTE * file_size + _ALLOWANCE:
            raise UnsupportedError(_claim(named, file_size))
        if viewed > _MAX_VIEWS_PER_BYTE * file_size + _ALLOWANCE:
            raise UnsupportedError(_claim(viewed, file_size))
        if not inner:
            return
        level = inner
    raise UnsupportedError(f"its values are nested more than {_MAX_DEPTH} levels deep")


def _claim(claimed: int, file_size: int) -> str:
    return f"its tensors claim {claimed} bytes, the file has {file_size}"


def _children(value: Any) -> list[Any]:
    if isinstance(value, Node):
        value = value.attributes
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else []
