"""A part of a file, here or elsewhere, open for reading: fetched as far as it is read."""

from __future__ import annotations

import bisect
import errno
import io
from collections import OrderedDict
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from slowfast.utils.addresses import is_address
from slowfast.utils.remote import DEFAULT, RetryPolicy, fetch, size_of

BLOCK = 256 << 10
_WINDOW = 16  # blocks of one request at most, where reading goes on from block to block
_KEPT = 64  # blocks in memory
_WHOLE = 4  # a file of so few blocks is fetched at once


AT_ONCE = 16 << 20  # bytes of a part that is fetched by one request


class Extent(NamedTuple):
    """A part of a file (path or address): ``size`` bytes from ``start``."""

    file: str
    start: int
    size: int


def open_extent(extent: Extent, policy: RetryPolicy = DEFAULT) -> RemoteFile:
    """A part of a file, open for reading; one of up to 16 MB is fetched by one request."""
    kind = RemoteFile if is_address(extent.file) else LocalPart
    return kind(*extent, policy, fetch_at_once=extent.size <= AT_ONCE)


def open_file(path: str) -> BinaryIO:
    """A whole file (path or address), open for reading: ``read(n)`` gives ``n`` bytes unless the
    file ends, as tarfile needs it."""
    return io.BufferedReader(RemoteFile(path), BLOCK) if is_address(path) else open(path, "rb")


class RemoteFile(io.RawIOBase):
    """The bytes from ``start`` of the file at ``address``, ``length`` of them (None: to its end).

    Blocks of 256 KB are fetched when they are read; where one is read after another, up to 4 MB
    ahead of the reader. 16 MB are kept in memory. ``fetch_at_once``: one request for all of it, on
    the first read. An error of a fetch also stands in ``failure``, since decoders may take it for
    the end of the file.
    """

    def __init__(
        self,
        address: str,
        start: int = 0,
        length: int | None = None,
        policy: RetryPolicy = DEFAULT,
        fetch_at_once: bool = False,
    ):
        super().__init__()
        self.address, self._start, self._policy = address, start, policy
        self._size = size_of(address, policy) if length is None else None
        self.length = self._size - start if length is None else length
        self.fetched = 0  # bytes so far
        self.failure: OSError | None = None
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._next, self._window = -1, 1
        self._at_once = fetch_at_once or self.length <= _WHOLE * BLOCK
        self._skipped: list[tuple[int, int]] = []

    @property
    def is_fetched_at_once(self) -> bool:
        """Whether the first read fetches all of it."""
        return self._at_once

    def skip_ranges(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Read zeros in these sorted, separate ranges of bytes, and do not fetch them."""
        self._skipped = list(ranges)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.length}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, fewer at the end of a block; empty at the end of the file."""
        left = self.length - self._position
        size = left if size < 0 else min(size, left)
        if size <= 0:
            return b""
        end = self._end_of_skipped()
        data = bytes(min(size, end - self._position)) if end else self._fetched_part(size)
        self._position += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    @property
    def _block_size(self) -> int:
        return max(self.length, 1) if self._at_once else BLOCK

    def _end_of_skipped(self) -> int:
        """The end of the blank range at the position; 0 if it is in none."""
        place = bisect.bisect_right(self._skipped, (self._position, self.length)) - 1
        if place < 0:
            return 0
        first, end = self._skipped[place]
        return end if first <= self._position < end else 0

    def _fetched_part(self, size: int) -> bytes:
        """At most ``size`` bytes of the block at the position."""
        number = self._position // self._block_size
        if number not in self._blocks:
            self._fetch(number)
            number = self._position // self._block_size
        self._blocks.move_to_end(number)
        offset = self._position % self._block_size
        return self._blocks[number][offset : offset + size]

    def _fetch(self, number: int) -> None:
        self._window = min(2 * self._window, _WINDOW) if number == self._next else 1
        size = self._block_size
        numbers = range(number, number + self._window)
        known = next((n for n in numbers if n in self._blocks), numbers.stop)
        first, last = number * size, min(known * size, self.length)
        try:
            data = self._read_range(self._start + first, self._start + last)
        except OSError as error:
            self.failure = error
            raise
        self.fetched += len(data)
        if len(data) > last - first:  # the whole file, of a server without ranges
            self._at_once, self._next = True, 1
            self._blocks = OrderedDict({0: data[self._start :]})
            return
        for place in range(0, len(data), size):
            self._blocks[number + place // size] = data[place : place + size]
        self._next = number + -(-len(data) // size)
        while len(self._blocks) > _KEPT:
            self._blocks.popitem(last=False)

    def _read_range(self, start: int, stop: int) -> bytes:
        return fetch(self.address, start, stop, self._policy, self._size)


class LocalPart(RemoteFile):
    """The same of a file of this machine, whose path is ``address``; ``length`` is known."""

    def _read_range(self, start: int, stop: int) -> bytes:
        with open(self.address, "rb") as file:
            file.seek(start)
            data = file.read(stop - start)
        if len(data) < stop - start:
            raise OSError(errno.EIO, "the file ends before this part of it", self.address)
        return data
