"""Files of ``torch.save`` before version 1.6: pickles one after the other, no archive.

They have no checksum of any kind.
"""

from __future__ import annotations

import io
from typing import Any, BinaryIO

import torch

from slowfast.models.weights.archive import DamagedError
from slowfast.models.weights.memory import FileMemory
from slowfast.models.weights.unpickle import unpickle

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read_legacy(file: BinaryIO) -> Any:
    """The content of an open file; exceptions as :func:`unpickle`, DamagedError if the sizes of
    storages are not those that the file has."""
    size = file.seek(0, 2)
    file.seek(0)
    if file.read(1) != b"\x80":
        raise DamagedError("it is no file of PyTorch")
    file.seek(0)
    if _values(file) != _MAGIC or _values(file) != _PROTOCOL:
        raise DamagedError("it is no file of PyTorch")
    system = _values(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise DamagedError("it was written on a computer of another byte order")
    start = file.tell()
    storages: dict[str, tuple[torch.dtype, int]] = {}

    def note(key: str, dtype: torch.dtype, count: int) -> None:
        if storages.setdefault(key, (dtype, count)) != (dtype, count):
            raise DamagedError("a storage has two sizes")

    unpickle(file, note)  # the storages stand behind the pickle that describes them
    end = file.tell()
    offsets = _storage_offsets(file, storages, size)
    file.seek(start)
    description, memory = io.BytesIO(file.read(end - start)), FileMemory(file)
    return unpickle(
        description, lambda key, dtype, count: memory.tensor(offsets[key], dtype, count)
    )


def _values(file: BinaryIO) -> Any:
    """A pickle that holds no tensors."""
    return unpickle(file, lambda *_: None)


def _storage_offsets(
    file: BinaryIO, storages: dict[str, tuple[torch.dtype, int]], size: int
) -> dict[str, int]:
    """Where the bytes of each storage begin: a list of keys, then each with its length."""
    keys = _values(file)
    if not isinstance(keys, list) or len(keys) != len(storages) or {*keys} != {*storages}:
        raise DamagedError("it does not have the storages that it describes")
    offsets, position = {}, file.tell()
    for key in keys:
        dtype, count = storages[key]
        file.seek(position)
        offsets[key] = position + 8
        position += 8 + count * dtype.itemsize
        if int.from_bytes(file.read(8), "little") != count or position > size:
            raise DamagedError(f"a storage of {count} numbers is not in it")
    return offsets
