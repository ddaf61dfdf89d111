"""Parts of a file as tensors."""

from __future__ import annotations

import mmap
from typing import BinaryIO

import torch

from slowfast.models.weights.archive import DamagedError


class FileMemory:
    """Gives parts of an open file as tensors: copies, or views of the ``mapped`` file."""

    def __init__(self, file: BinaryIO, mapped: bool = False):
        self._file = file
        # Private: what is written into a tensor does not reach the file.
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if mapped else None

    def tensor(self, offset: int, dtype: torch.dtype, count: int) -> torch.Tensor:
        """``count`` numbers that begin at byte ``offset``; the caller knows that the file has as
        many. DamagedError if it has become shorter."""
        if not count:
            return torch.empty(0, dtype=dtype)
        if self._map is not None and offset % dtype.itemsize == 0:
            return torch.frombuffer(self._map, dtype=dtype, count=count, offset=offset)
        values = torch.empty(count, dtype=dtype)
        buffer = memoryview(values.view(torch.uint8).numpy())
        self._file.seek(offset)
        while buffer:
            read = self._file.readinto(buffer)
            if not read:
                raise DamagedError("it ends too early")
            buffer = buffer[read:]
        return values
