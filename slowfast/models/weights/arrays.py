"""Pickles of NumPy arrays, as Caffe2's weights and the scores of tests are kept: arrays and plain
values, nothing else."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
import torch

from slowfast.models.weights.archive import DamagedError
from slowfast.models.weights.unpickle import ScalarType, Stateful, Unpickler, UnsupportedError

_MAX_DIMENSIONS = 32


class Array(Stateful):
    """An array that a pickle describes: shape, type of its numbers, and its bytes."""

    def __init__(self, *_: Any):
        self.data: Any = b""
        self.dtype: np.dtype | None = None
        self.shape: tuple[int, ...] = ()
        self.order = "C"
        self._tensor: torch.Tensor | None = None

    def set_state(self, state: Any) -> None:
        """``(version, shape, type, whether columns come first, bytes)``, as NumPy writes it."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise DamagedError("an array has no description")
        _, shape, kind, columns_first, data = state
        self.describe(data, kind, shape, "F" if columns_first else "C")

    def describe(self, data: Any, kind: Any, shape: Any, order: str) -> None:
        """Note where the numbers stand; ``data`` (bytes of Python 2 are read as latin-1) must hold
        exactly those of the shape. Nothing is copied."""
        if not isinstance(data, (bytes, bytearray, str)) or not isinstance(kind, ScalarType):
            raise pickle.UnpicklingError("an array of something else than numbers")
        if not isinstance(shape, tuple) or len(shape) > _MAX_DIMENSIONS:
            raise DamagedError("an array has no shape")
        if any(type(size) is not int or size < 0 for size in shape):
            raise DamagedError("an array has no shape")
        if math.prod(shape) * kind.dtype.itemsize != len(data):
            raise DamagedError(f"an array of shape {shape} stands in {len(data)} bytes")
        self.data, self.dtype, self.shape, self.order = data, kind.dtype, shape, order

    def tensor(self) -> torch.Tensor:
        """The array as a tensor, the same one each time, in the byte order of this computer."""
        if self._tensor is None:
            if self.dtype is None:
                raise DamagedError("an array was not described")
            data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
            values = np.frombuffer(data, self.dtype).reshape(self.shape, order=self.order)
            native = values.astype(self.dtype.newbyteorder("="), order="C")
            try:
                self._tensor = torch.from_numpy(native)
            except TypeError as error:  # types that PyTorch lacks
                raise DamagedError(f"an array of {native.dtype}") from error
        return self._tensor


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any = "C") -> Array:
    """An array of protocol 5."""
    array = Array()
    array.describe(data, kind, shape, "F" if order == "F" else "C")
    return array


def _no_bytes() -> bytes:
    """How protocol 2 writes bytes of which there are none."""
    return b""


_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, "_reconstruct"): Array for module in _MODULES},
    **{(module, "_frombuffer"): _from_buffer for module in _NUMERIC},
    ("numpy", "ndarray"): None,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
}
_CALLABLE = {id(Array), id(_from_buffer), id(_no_bytes)}


class _ArrayUnpickler(Unpickler):
    """An unpickler that knows arrays as well."""

    def __init__(self, file: BinaryIO):
        super().__init__(file, _no_storage, modules=False)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        return super().find_class(module, name)

    def may_call(self, function: Any) -> bool:
        return id(function) in _CALLABLE or super().may_call(function)


def _no_storage(*_: Any) -> torch.Tensor:
    raise pickle.UnpicklingError("a tensor of PyTorch among arrays")


def read_arrays(file: BinaryIO) -> dict[str, Any] | list[Any]:
    """The dict or list that an open pickle holds, its arrays as tensors; exceptions as
    ``unpickle``."""
    size = file.seek(0, 2)
    file.seek(0)
    content = _ArrayUnpickler(file).load()
    if isinstance(content, tuple):
        content = list(content)
    if not isinstance(content, (dict, list)):
        raise DamagedError("it holds no dict or list of arrays")
    groups = [content]
    if isinstance(content, dict) and isinstance(content.get("blobs"), dict):
        groups.append(content["blobs"])
    found = [(g, place, v) for g in groups for place, v in _entries(g) if isinstance(v, Array)]
    distinct = {id(array): array for _, _, array in found}
    if sum(len(array.data) for array in distinct.values()) > size:
        raise UnsupportedError("its arrays share their numbers")
    for group, place, array in found:
        group[place] = array.tensor()
    return content


def _entries(group: dict[str, Any] | list[Any]) -> Iterable[tuple[Any, Any]]:
    return group.items() if isinstance(group, dict) else enumerate(group)
