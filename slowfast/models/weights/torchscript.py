"""TorchScript archives as weights: tensors are read, code is neither loaded nor run.

An archive is a zip file: ``data.pkl`` describes the module tree, ``data/<key>`` hold the memory of
tensors, ``code/`` is a program, which is not read. The pickle may only build what is listed here.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_torchscript(path: str | Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        parts = [name.split("/", 1)[-1] for name in archive.namelist()]
    return "constants.pkl" in parts and any(part.startswith("code/") for part in parts)


def read_torchscript(path: str | Path) -> dict[str, torch.Tensor]:
    """All tensors of the module tree by their dotted names.

    pickle.UnpicklingError if the file describes anything but modules, tensors and plain values,
    ValueError if it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            root = next(n for n in names if n.endswith("/data.pkl"))[: -len("data.pkl")]
            with archive.open(f"{root}data.pkl") as file:
                tree = _Unpickler(file, lambda key: archive.read(f"{root}data/{key}")).load()
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error
    except (AttributeError, IndexError, StopIteration, TypeError) as error:
        raise pickle.UnpicklingError(f"no module tree: {error}") from error
    return dict(_tensors(tree, ""))


class _Node:
    """Replaces modules of any class: has their attributes and no behaviour."""

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


def _tensors(node: Any, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in getattr(node, "attributes", {}).items():
        if isinstance(value, torch.Tensor):
            yield prefix + name, value
        elif isinstance(value, _Node):
            yield from _tensors(value, f"{prefix}{name}.")


def _rebuild(storage: torch.Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> Any:
    if math.prod(size) > len(storage):  # with strides of 0 a few bytes could fill all memory
        raise pickle.UnpicklingError(f"a tensor of {size} in {len(storage)} numbers")
    return storage.as_strided(size, stride, offset).clone()


def _rebuild_parameter(data: torch.Tensor, *_: Any) -> torch.Tensor:
    return data


def _plain(value: Any, *_: Any) -> Any:
    return value


_ALLOWED: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch.jit._pickle", "restore_type_tag"): _plain,
    ("torch.jit._pickle", "build_intlist"): list,
    ("torch.jit._pickle", "build_doublelist"): list,
    ("torch.jit._pickle", "build_boollist"): list,
    ("torch.jit._pickle", "build_tensorlist"): list,
    ("torch", "device"): str,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, read: Callable[[str], bytes]):
        super().__init__(file)
        self._read = read

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Node
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")

    def persistent_load(self, pid: Any) -> torch.Tensor:
        """The memory of a tensor, ``pid`` is ``("storage", type, key, device, count)``."""
        try:
            _, dtype, key, _, _ = pid
            content = bytearray(self._read(key))
        except (ValueError, TypeError, KeyError) as error:
            raise pickle.UnpicklingError(f"no memory for a tensor: {error}") from error
        if not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"{dtype} is not a type of tensors")
        return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
