"""Batches in memory that the main process and its loader workers share.

Workers write clips where the batch needs them; the batch is a view of that memory. The memory is a
file without a name (``memfd``): it needs no room in ``/dev/shm``, which is small in containers, and
nothing of it is left behind, however the processes end.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections import deque
from collections.abc import Sequence
from multiprocessing import reduction
from typing import Any, NamedTuple

import numpy as np
import torch

from slowfast.datasets.clip_reader import stack_channels_last

_PAGE = FIRST_PAGE = mmap.ALLOCATIONGRANULARITY  # the first one is not for batches
# Clips that are larger than the first one (whole frames of videos of different sizes) get larger
# places, up to this factor; beyond it they travel through the worker's pipe.
_LARGEST_PLACE = 4


class Place(NamedTuple):
    """Where a worker writes a clip: ``start`` within the part ``offset``, ``size`` of the memory,
    at most ``capacity`` bytes."""

    offset: int
    size: int
    start: int
    capacity: int

    def fits(self, size: int, itemsize: int) -> bool:
        """Whether ``size`` bytes of numbers of ``itemsize`` bytes may stand here."""
        return size <= self.capacity and self.start % itemsize == 0


class SharedMemory:
    """The memory; a worker that gets it, by fork or as an argument, sees the same bytes."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self._parts: dict[tuple[int, int], np.ndarray] = {}
        weakref.finalize(self, os.close, descriptor)

    @classmethod
    def create(cls) -> SharedMemory:
        """New memory, a page large; OSError if the system has no descriptor left."""
        if hasattr(os, "memfd_create"):
            memory = cls(os.memfd_create("slowfast batches"))
        else:
            with tempfile.TemporaryFile() as file:
                memory = cls(os.dup(file.fileno()))
        memory.grow(FIRST_PAGE)
        return memory

    def __reduce__(self):
        return _received, (reduction.DupFd(self._descriptor),)

    def grow(self, size: int) -> None:
        """Make the memory ``size`` bytes large; OSError beyond the limit on the size of files."""
        os.ftruncate(self._descriptor, size)

    def part(self, offset: int, size: int) -> np.ndarray:
        """Bytes of the memory, uint8; ``offset`` is a multiple of the page size."""
        key = offset, size
        if key not in self._parts:
            self._parts[key] = np.frombuffer(
                mmap.mmap(self._descriptor, size, offset=offset), dtype=np.uint8
            )
        return self._parts[key]

    @property
    def oldest(self) -> int:
        """Tasks with a smaller ticket need not be worked on any more."""
        return int(self.part(0, FIRST_PAGE).view(np.int64)[0])

    def set_oldest(self, ticket: int) -> None:
        self.part(0, FIRST_PAGE).view(np.int64)[0] = ticket


def _received(descriptor: reduction.DupFd) -> SharedMemory:
    return SharedMemory(descriptor.detach())


class Lease:
    """Room for the clips of one batch. It is free again when the lease and all tensors of it have
    gone."""

    def __init__(self, offset: int, owner: np.ndarray, capacity: int):
        self._offset, self._capacity = offset, capacity
        self._size = owner.nbytes
        self._bytes = torch.from_numpy(owner)  # its storage keeps ``owner``

    def place(self, number: int) -> Place:
        """The place of clip ``number``."""
        return Place(self._offset, self._size, number * self._capacity, self._capacity)

    def tensor(self, place: Place, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """What a worker has written to ``place``."""
        count = int(np.prod(shape)) * dtype.itemsize
        return self._bytes.narrow(0, place.start, count).view(dtype).view(*shape)


def join_clips(clips: Sequence[torch.Tensor]) -> torch.Tensor:
    """Clips ``… C T H W`` -> one tensor with another first dimension, in channels-last memory.

    Nothing is copied if they already lie there one after another, as workers write them.
    """
    first = clips[0]
    if not first.movedim(-4, -1).is_contiguous() or not all(
        clip.shape == first.shape
        and clip.stride() == first.stride()
        and clip.dtype == first.dtype
        and clip.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        and clip.storage_offset() == first.storage_offset() + number * first.numel()
        for number, clip in enumerate(clips)
    ):
        return stack_channels_last(clips)
    return first.as_strided((len(clips), *first.shape), (first.numel(), *first.stride()))


class BatchMemory:
    """Hands out room for batches in a :class:`SharedMemory`.

    It grows with the batches that are in use at the same time: those on their way and those that
    somebody still holds; room that is free again is used again, so nothing is overwritten while it
    can be seen. ``kind`` tells clips of different sizes apart: their sizes are learnt separately.
    """

    def __init__(self, memory: SharedMemory):
        self._memory = memory
        self._end = FIRST_PAGE
        self._first: dict[Any, int] = {}
        self._capacity: dict[Any, int] = {}
        self._free: deque[tuple[int, int]] = deque()  # filled by finalizers, in any thread

    @property
    def size(self) -> int:
        """Bytes of the memory so far."""
        return self._end

    def learn(self, count: int, kind: Any = None) -> None:
        """Clips of ``count`` bytes come; until the first one has come, their size is not known."""
        first = self._first.setdefault(kind, count)
        if self._capacity.get(kind, 0) < count <= _LARGEST_PLACE * first:
            self._capacity[kind] = count

    def lease(self, clips: int, kind: Any = None) -> Lease | None:
        """Room for ``clips`` clips; None as long as their size is not known."""
        capacity = self._capacity.get(kind, 0)
        size = clips * capacity
        if not size:
            return None
        offset, room = self._take(size)
        # A view of its own: it goes when the last tensor of this batch does.
        owner = self._memory.part(offset, room).view()
        weakref.finalize(owner, self._free.append, (offset, room)).atexit = False
        return Lease(offset, owner, capacity)

    def _take(self, size: int) -> tuple[int, int]:
        for _ in range(len(self._free)):
            offset, room = self._free.popleft()
            if room >= size:
                return offset, room
            self._free.append((offset, room))
        room = -(-size // _PAGE) * _PAGE
        return self._extend(room), room

    def _extend(self, size: int) -> int:
        offset = self._end
        end = offset + -(-size // _PAGE) * _PAGE
        self._memory.grow(end)
        self._end = end
        return offset
