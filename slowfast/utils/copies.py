"""Copies of large remote files that many processes of a machine read parts of."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from slowfast.utils.files import locked, remove_leftovers, short_hash
from slowfast.utils.remote import (
    DEFAULT,
    RetryPolicy,
    cache_folder,
    download,
    is_recent,
    version_of,
)


class Copies:
    """Whole copies of remote files on the disk of this machine: the last ``count`` of them, and all
    that were used in the last minute.

    The processes of a machine share them: one fetches a file, the others wait for it.
    """

    def __init__(self, count: int, policy: RetryPolicy = DEFAULT):
        self._count, self._policy = count, policy
        self._names: dict[str, tuple[str, int]] = {}  # address -> name of the copy, bytes

    def of(self, address: str) -> Path:
        """The copy of a file, which is fetched if it is not there. OSError if that fails."""
        if address not in self._names:
            size, version = version_of(address, self._policy)
            self._names[address] = f"{short_hash(address, version)}.copy", size
        name, size = self._names[address]
        folder = cache_folder() / "copies"
        target = folder / name
        if not _touch(target):
            with locked(folder / f"{name}.lock"):
                if not _touch(target):
                    remove_leftovers([target])
                    download(address, target, size, self._policy)
                    self._make_room(folder)
        return target

    def _make_room(self, folder: Path) -> None:
        with contextlib.suppress(FileNotFoundError):  # another process makes room, too
            copies = sorted(folder.glob("*.copy"), key=lambda path: path.stat().st_mtime_ns)
            for path in copies[: -self._count]:
                if not is_recent(path):
                    path.unlink()


def _touch(path: Path) -> bool:
    """Note that a copy is used; whether it is there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
