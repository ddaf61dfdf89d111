"""Checkpoints that are folders of ``torch.distributed.checkpoint``: tensors in the files of the
processes that wrote them.

A folder that a run has written is the content of its single file, divided: tensors of the network,
its average and the optimizer stand in PyTorch's files, all else in :data:`HEAD`, with the size and
SHA-256 of every other file. It is written last: without it, the folder is incomplete.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any, BinaryIO

import torch

from slowfast.models.weights.archive import Archive, DamagedError
from slowfast.models.weights.folder_index import INDEX, Entry, Part, read_index
from slowfast.models.weights.torch_archive import read_torch_archive
from slowfast.models.weights.tree import check_tree
from slowfast.utils.files import file_hash

SUFFIX = ".dcp"
HEAD = "run.pyth"  # the content without its tensors
_FILES = "files"  # in the head: name -> size and SHA-256
_DIVIDED = ("model_state", "ema_state", "optimizer_state")


def is_folder_checkpoint(path: Path) -> bool:
    """Whether a folder is, or was to become, a checkpoint."""
    return path.is_dir() and (path.suffix == SUFFIX or (path / INDEX).is_file())


def is_complete(path: Path) -> bool:
    """Whether a run has written the folder to its end."""
    return (path / HEAD).is_file()


def size_of(path: Path) -> int:
    """Bytes of a file or of the files of a folder."""
    return sum(p.stat().st_size for p in path.iterdir()) if path.is_dir() else path.stat().st_size


def folder_hash(path: Path) -> str:
    """The SHA-256 of the head, in which those of all files stand; of a folder of others, of its
    files."""
    if is_complete(path):
        return file_hash(path / HEAD)
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()):
        _check_file(file)
        digest.update(f"{file.name} {file_hash(file)}\n".encode())
    return digest.hexdigest()


# -- writing ---------------------------------------------------------------------------------------


def divide(content: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tensors of the large parts, everything else) of the content of a checkpoint."""
    tensors: dict[str, Any] = {}
    head = dict(content)
    for name in _DIVIDED:
        if isinstance(content.get(name), dict):
            tensors[name], head[name] = _divide(content[name])
    return tensors, head


def _divide(tree: dict[Any, Any]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    tensors, others = {}, {}
    for key, value in tree.items():
        if isinstance(value, torch.Tensor):
            tensors[key] = value
        elif isinstance(value, dict):
            inner, others[key] = _divide(value)
            tensors |= {key: inner} if inner else {}
        else:
            others[key] = value
    return tensors, others


def with_files(head: dict[str, Any], files: dict[str, list[Any]]) -> dict[str, Any]:
    """The head with the ``files`` beside it, as :func:`describe_file` says them."""
    return head | {_FILES: files}


def describe_file(path: Path) -> list[Any]:
    """[size, SHA-256] of a file."""
    return [path.stat().st_size, file_hash(path)]


# -- reading ---------------------------------------------------------------------------------------


def read_folder(folder: Path, without_optimizer: bool = False) -> dict[str, Any]:
    """The content of a folder as that of a single file, verified, whole tensors on the CPU.

    Folders of others are compared with the CRC-32 of every tensor. ``without_optimizer``: the
    tensors of its state are left out. DamagedError, UnsupportedError, pickle.UnpicklingError or
    what damaged bytes lead to.
    """
    content: dict[str, Any] = {}
    if is_complete(folder):
        content = _read_head(folder)
        _compare(folder, content.pop(_FILES, None))
    elif folder.suffix == SUFFIX:
        raise DamagedError(f"it is incomplete: there is no {HEAD}")
    size = size_of(folder)
    entries = read_index(folder)
    # Parts that share their bytes would cost memory without end.
    if sum(part.length for entry in entries for part in entry.parts) > size:
        raise DamagedError(f"its index claims more bytes than its files have, which are {size}")
    if without_optimizer:
        entries = [entry for entry in entries if entry.name[0] != "optimizer_state"]
    for entry in entries:
        _insert(content, _name(entry), _read(entry, folder))
    check_tree(content, size)
    return content


def _read_head(folder: Path) -> dict[str, Any]:
    with open(folder / HEAD, "rb") as file:
        head = read_torch_archive(Archive(file))
    if not isinstance(head, dict):
        raise DamagedError(f"{HEAD} is none")
    return head


def _compare(folder: Path, files: Any) -> None:
    """DamagedError unless the files are those that were written."""
    if not isinstance(files, dict) or INDEX not in files:
        raise DamagedError(f"{HEAD} does not name its files")
    for name, written in files.items():
        if not isinstance(name, str) or os.path.basename(name) != name:
            raise DamagedError(f"{HEAD} names a file that lies elsewhere")
        path = folder / name
        if not path.is_file():
            raise DamagedError(f"its file {name} is missing")
        if describe_file(path) != written:
            raise DamagedError(f"its file {name} is not the one that was written")


def _name(entry: Entry) -> tuple[Any, ...]:
    """Where an entry stands in the content: an optimizer numbers its parameters."""
    first, rest = entry.name[:2], entry.name[2:]
    if first != ("optimizer_state", "state") or not rest or not str(rest[0]).isdecimal():
        return entry.name
    return (*first, int(rest[0]), *rest[1:])


def _insert(content: dict[str, Any], name: tuple[Any, ...], value: Any) -> None:
    for step in name[:-1]:
        content = content.setdefault(step, {})
        if not isinstance(content, dict):
            raise DamagedError("a name in its index leads into a value")
    if name[-1] in content:
        raise DamagedError(f"{name[-1]!a} stands in it twice")
    content[name[-1]] = value


def _read(entry: Entry, folder: Path) -> Any:
    values = (_read_part(part, folder) for part in entry.parts)
    if entry.dtype is None:
        return next(values)
    whole = None if len(entry.parts) == 1 else torch.empty(entry.size, dtype=entry.dtype)
    for part, value in zip(entry.parts, values):
        is_tensor = isinstance(value, torch.Tensor)
        if not is_tensor or tuple(value.shape) != part.size or value.dtype != entry.dtype:
            raise DamagedError(f"{entry.name[-1]!a} is not what its index says")
        if whole is None:
            return value
        whole[part.start[0] : part.start[0] + part.size[0]] = value
    return whole


def _read_part(part: Part, folder: Path) -> Any:
    _check_file(folder / part.file)
    with open(folder / part.file, "rb") as file:
        section = _Section(file, part.offset, part.length)
        return read_torch_archive(Archive(io.BufferedReader(section)))


def _check_file(file: Path) -> None:
    """DamagedError for a pipe or a device, whose reading might never end."""
    if not file.is_file():
        raise DamagedError(f"{file.name!a} is no file")


class _Section(io.RawIOBase):
    """A part of an open file as a file of its own."""

    def __init__(self, file: BinaryIO, start: int, length: int):
        self._file, self._start, self._position = file, start, 0
        if start + length > os.fstat(file.fileno()).st_size:
            raise DamagedError("a file of it ends too early")
        self._length = length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise DamagedError("it ends too early")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(self._length - self._position, 0)]
        self._file.seek(self._start + self._position)
        count = self._file.readinto(view)
        self._position += count
        return count
