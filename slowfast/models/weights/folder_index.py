"""The index of a folder of ``torch.distributed.checkpoint``: which tensors are in which files.

PyTorch reads ``.metadata`` with Python's pickle, which runs whatever code stands in it. Here only
the few classes of the index are known, as descriptions without behaviour.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slowfast.models.weights.archive import DamagedError
from slowfast.models.weights.unpickle import Stateful, Unpickler, UnsupportedError, checked_key

INDEX = ".metadata"
_MAX_INDEX = 256 << 20
_MAX_OPERATIONS = 100_000_000  # 100 for each part of a tensor
_PLACE = "torch.distributed.checkpoint.metadata"
_FILES = "torch.distributed.checkpoint.filesystem"
Name = tuple[str | int, ...]


@dataclass(frozen=True)
class Part:
    """A part of a tensor: ``start`` and ``size`` in each dimension, and where its archive is."""

    start: tuple[int, ...]
    size: tuple[int, ...]
    file: str
    offset: int
    length: int


@dataclass(frozen=True)
class Entry:
    """Something in the folder: a tensor of ``size`` and ``dtype`` in parts that follow each other
    in its first dimension, or another value (``dtype`` None) in one part."""

    name: Name
    size: tuple[int, ...]
    dtype: torch.dtype | None
    parts: tuple[Part, ...]


def read_index(folder: Path) -> list[Entry]:
    """What a folder holds, by its index; DamagedError, UnsupportedError, pickle.UnpicklingError or
    what damaged bytes lead to."""
    with open(folder / INDEX, "rb") as file:
        if file.seek(0, 2) > _MAX_INDEX:
            raise DamagedError(f"its index has more than {_MAX_INDEX >> 20} MiB")
        file.seek(0)
        index = _IndexUnpickler(file, _no_memory, modules=False).load()
    if not isinstance(index, _Described) or index.kind != "Metadata":
        raise DamagedError("its index is none")
    places, names = index.get("storage_data", dict), index.get("planner_data", dict)
    entries = index.get("state_dict_metadata", dict)
    return [_entry(label, names.get(label, (label,)), entries[label], places) for label in entries]


# -- the pickle ------------------------------------------------------------------------------------


class _Described(Stateful):
    """An object of the index: the attributes that stand in the file."""

    kind = ""

    def __init__(self) -> None:
        self.state: Any = {}

    def set_state(self, state: Any) -> None:
        self.state = state

    def get(self, name: str, kind: type) -> Any:
        """An attribute, which must be of a type."""
        value = self.state.get(name) if isinstance(self.state, dict) else None
        if type(value) is not kind:
            raise DamagedError(f"its index has no {name}")
        return value


def _description(name: str) -> type[_Described]:
    return type(name, (_Described,), {"kind": name})


def _without_meaning(*_: Any) -> None:
    """Memory formats, layouts and the path that the folder had when it was written."""


_KNOWN: dict[tuple[str, str], Any] = {
    **{
        (_PLACE, name): _description(name)
        for name in (
            *("Metadata", "TensorStorageMetadata", "TensorProperties", "ChunkStorageMetadata"),
            *("BytesStorageMetadata", "MetadataIndex", "StorageMeta"),
        )
    },
    (_FILES, "_StorageInfo"): _description("_StorageInfo"),
    (_PLACE, "_MEM_FORMAT_ENCODING"): _without_meaning,
    ("builtins", "getattr"): _without_meaning,  # members of it, as Python 3.11.0 to 3.11.3 write
    ("torch.serialization", "_get_layout"): _without_meaning,
    ("pathlib", "PosixPath"): _without_meaning,
    ("pathlib._local", "PosixPath"): _without_meaning,
    ("pathlib", "WindowsPath"): _without_meaning,
    ("pathlib._local", "WindowsPath"): _without_meaning,
}
_CALLABLE = {id(known) for known in _KNOWN.values()}


def _no_memory(*_: Any) -> None:
    raise pickle.UnpicklingError("its index holds tensors")


def _key(key: Any) -> Any:
    """A key of a dict; an index of a tensor's part becomes (name, start)."""
    if not isinstance(key, _Described):
        return checked_key(key)
    if key.kind != "MetadataIndex" or not isinstance(key.state, dict):
        raise DamagedError("its index has an unknown key")
    start = key.state.get("offset")
    return key.get("fqn", str), None if start is None else _numbers(start)


class _IndexUnpickler(Unpickler):
    def __init__(self, *arguments: Any, **names: Any):
        super().__init__(*arguments, **names)
        self.dispatch.left = _MAX_OPERATIONS

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        return super().find_class(module, name) if known is None else known

    def may_call(self, function: Any) -> bool:
        return id(function) in _CALLABLE or super().may_call(function)

    def _do_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._dict_on_top()[_key(key)] = value

    def _do_setitems(self) -> None:
        items = self.pop_mark()
        self._dict_on_top().update((_key(k), v) for k, v in zip(items[::2], items[1::2]))


# -- its content -----------------------------------------------------------------------------------


def _numbers(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple) or not all(type(n) is int and n >= 0 for n in value):
        raise DamagedError("a size in its index is none")
    return value


def _entry(label: Any, name: Any, what: Any, places: dict[Any, Any]) -> Entry:
    if not isinstance(label, str) or not isinstance(name, tuple) or not name:
        raise DamagedError("a name in its index is none")
    if not all(type(step) in (str, int) for step in name):
        raise DamagedError("a name in its index is none")
    kind = what.kind if isinstance(what, _Described) else ""
    if kind == "BytesStorageMetadata":
        return Entry(name, (), None, (_part(label, places, None, (), ()),))
    if kind != "TensorStorageMetadata":
        raise UnsupportedError(f"{label!a} is neither a tensor nor a value")
    properties = what.state.get("properties") if isinstance(what.state, dict) else None
    state = properties.state if isinstance(properties, _Described) else None
    if not isinstance(state, tuple) or not state or not isinstance(state[0], torch.dtype):
        raise DamagedError(f"{label!a} has no type")
    size = _numbers(what.get("size", tuple))
    parts = sorted(_parts(label, what, places), key=lambda part: part.start)
    _check_parts(label, size, parts, state[0].itemsize)
    return Entry(name, size, state[0], tuple(parts))


def _parts(label: str, what: _Described, places: dict[Any, Any]) -> Iterator[Part]:
    for chunk in what.get("chunks", list):
        if not isinstance(chunk, _Described) or chunk.kind != "ChunkStorageMetadata":
            raise DamagedError(f"{label!a} has a part that is none")
        start, size = (_numbers(chunk.get(name, tuple)) for name in ("offsets", "sizes"))
        yield _part(label, places, start, start, size)


def _part(
    label: str, places: dict[Any, Any], key: Any, start: tuple[int, ...], size: tuple[int, ...]
) -> Part:
    place = places.get((label, key))
    if not isinstance(place, _Described) or place.kind != "_StorageInfo":
        raise DamagedError(f"{label!a} has no place")
    if place.state.get("transform_descriptors"):
        raise UnsupportedError(f"{label!a} is compressed or encrypted")
    file = place.get("relative_path", str)
    if not file or "/" in file or "\\" in file or file in (".", ".."):
        raise DamagedError("a file in its index lies elsewhere")
    offset, length = _numbers((place.get("offset", int), place.get("length", int)))
    return Part(start, size, file, offset, length)


def _check_parts(label: str, size: tuple[int, ...], parts: list[Part], itemsize: int) -> None:
    """Parts are whole in all dimensions but the first, in which they follow each other."""
    end = 0
    for part in parts:
        if len(part.start) != len(size) or len(part.size) != len(size):
            raise DamagedError(f"a part of {label!a} has other dimensions")
        if any(part.start[1:]) or part.size[1:] != size[1:]:
            raise UnsupportedError(f"{label!a} is divided in more than its first dimension")
        if size and part.start[0] != end:
            raise DamagedError(f"parts of {label!a} are missing or overlap")
        if math.prod(part.size) * itemsize > part.length:
            raise DamagedError(f"{label!a} claims more bytes than it has")
        end += part.size[0] if size else 1
    if end != (size[0] if size else 1):
        raise DamagedError(f"parts of {label!a} are missing")
