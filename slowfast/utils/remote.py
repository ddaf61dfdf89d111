"""Files that are not on this machine, read through fsspec: the one door to all of them.

Whatever the storage, a read is a ranged request of limited size. One that fails (an error of the
server, a broken connection, a body that is too short or does not come) is repeated with growing
pauses, within a total limit of time.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from slowfast.utils.addresses import PACKAGES, check_address, is_address, without_secrets
from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.files import locked, make_dirs, remove_leftovers, short_hash, write_atomic
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

T = TypeVar("T")

_PART = 8 << 20  # bytes of one request of a whole file
MOST_AT_ONCE = 64 << 20  # bytes of a file of a web server without ranges that are held in memory
_WEB = ("http://", "https://")
_SLOWEST = 1 << 20  # bytes a second of a transfer in one piece, below which it is given up
_RECENT_S = 60.0
_CHUNK = 1 << 20  # bytes of one read of a file of this machine
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 8.0
# Not repeated: the next answer would be the same.
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotImplementedError)
_PERMANENT_NAMES = {"NoCredentialsError", "ProfileNotFound", "InvalidRegionError"}  # botocore


@dataclass(frozen=True)
class RetryPolicy:
    """How long a read may take: ``tries`` requests of at most ``request_s`` seconds each,
    ``total_s`` seconds with the pauses between them."""

    tries: int = 6
    request_s: float = 30.0
    total_s: float = 120.0


DEFAULT = RetryPolicy()


class RemoteError(OSError):
    """A file of a storage that cannot be read; ``strerror`` is the cause, without secrets."""

    def __init__(self, address: str, cause: str):
        super().__init__(errno.EIO, cause, address)

    def __reduce__(self):
        return (type(self), (self.filename, self.strerror))


class TooLong(RemoteError):
    """A web server sends more than was asked for."""


def filesystem_of(address: str, repeats_itself: bool = False) -> Any:
    """The fsspec file system of an address, which fsspec keeps for this process and thread;
    ``repeats_itself``: its library repeats requests that fail.

    UserError if the address is not permitted, or naming the package that is missing.
    """
    check_address(address, "path")
    scheme = address.partition("://")[0]
    package = PACKAGES[scheme]
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{scheme}:// needs the package {package}",
            f'pip install {package}, or pip install -e ".[remote]"',
            f"{scheme}://",
        ) from error
    import fsspec

    return fsspec.filesystem(scheme, **_options(scheme, repeats_itself))


def _options(scheme: str, repeats_itself: bool) -> dict[str, Any]:
    """Options by which a library repeats nothing itself (:func:`_with_retries` does) and lists no
    folders ahead."""
    if scheme == "s3":
        retries = {"total_max_attempts": 5 if repeats_itself else 1, "mode": "standard"}
        return {"config_kwargs": {"retries": retries}, "default_fill_cache": False}
    return {}


def _with_retries(
    address: str,
    request: Callable[[Any, dict[str, float]], T],
    policy: RetryPolicy,
    repeats_itself: bool = False,
) -> T:
    """``request(file system, keyword arguments of its call)``, repeated as ``policy`` says.

    FileNotFoundError if there is no such file; RemoteError with the last cause.
    """
    from fsspec.asyn import AsyncFileSystem

    start = time.monotonic()
    tries = 0
    while True:
        system = filesystem_of(address, repeats_itself)
        if hasattr(system, "retries"):  # s3fs repeats requests by this number
            system.retries = 5 if repeats_itself else 1
        left = policy.total_s - (time.monotonic() - start)
        timed = isinstance(system, AsyncFileSystem)  # a limit for the whole answer
        tries += 1
        try:
            limits = {"timeout": max(min(policy.request_s, left), 0.01)} if timed else {}
            return request(system, limits)
        except Exception as error:
            if isinstance(error, FileNotFoundError):
                text = "there is no such file"
                raise FileNotFoundError(errno.ENOENT, text, address) from error
            permanent = isinstance(error, _PERMANENT) or type(error).__name__ in _PERMANENT_NAMES
            if isinstance(error, TooLong):
                raise
            if permanent or isinstance(error, UserError):
                raise RemoteError(address, f"cannot be fetched: {_cause(error)}") from error
            pause = min(_FIRST_PAUSE_S * 2 ** (tries - 1), _LONGEST_PAUSE_S)
            pause *= random.Random().uniform(0.5, 1.0)  # many workers do not come back together
            passed = time.monotonic() - start
            if tries == policy.tries or passed + pause >= policy.total_s:
                raise RemoteError(
                    address,
                    f"cannot be fetched: {_cause(error)} ({tries} tries in {passed:.0f} seconds)",
                ) from error
            logger.debug("%s: try %d failed: %s", address, tries, _cause(error))
        time.sleep(pause)


def _cause(error: Exception) -> str:
    """What an error says, in one line without secrets."""
    name = type(error).__name__
    if "Timeout" in name:
        return "the server does not answer, or too slowly"
    text = getattr(error, "strerror", None) or str(error)
    return without_secrets(" ".join(text.split()))[:200] or name


def size_of(address: str, policy: RetryPolicy = DEFAULT) -> int:
    """The number of bytes of a file.

    FileNotFoundError if there is none, or it is a folder; RemoteError if it cannot be found out.
    """
    return _facts(address, policy)["size"]


def version_of(address: str, policy: RetryPolicy = DEFAULT) -> tuple[int, str]:
    """The bytes of a file, and a text that another content has not (as far as the server tells)."""
    facts = _facts(address, policy)
    return facts["size"], _version(facts)


def _version(facts: dict[str, Any]) -> str:
    tags = ("ETag", "etag", "blob_id", "LastModified")
    tag = next((facts[name] for name in tags if facts.get(name)), "")
    return f"{facts['size']} {tag}"


def _facts(address: str, policy: RetryPolicy) -> dict[str, Any]:
    facts = _with_retries(address, lambda system, limits: system.info(address, **limits), policy)
    if facts.get("type") == "directory":
        raise FileNotFoundError(errno.ENOENT, "is a folder", address)
    if not isinstance(facts.get("size"), int):
        raise RemoteError(address, "the server does not say how long the file is")
    return facts


def exists(path: str) -> bool:
    """Whether there is a file of this path or address. RemoteError if it cannot be found out."""
    if not is_address(path):
        return os.path.exists(path)
    try:
        size_of(path)
    except FileNotFoundError:
        return False
    return True


def fetch(
    address: str, start: int, stop: int, policy: RetryPolicy = DEFAULT, size: int | None = None
) -> bytes:
    """The bytes from ``start`` to ``stop`` of a file; RemoteError if they do not come.

    ``size`` of the file, where it is known: a server that ignores ranges sends so many, and then
    all are returned; :class:`TooLong` if these are more than 64 MiB.
    """

    def request(system: Any, limits: dict[str, float]) -> bytes:
        if address.startswith(_WEB):
            most = size if size is not None and size <= MOST_AT_ONCE else stop - start
            data = bytearray()
            _receive(system, address, (start, stop), max(most, stop - start), data.extend, limits)
            data = bytes(data)
        else:
            data = system.cat_file(address, start=start, end=stop, **limits)
        if len(data) not in (stop - start, size):
            raise ValueError(f"{len(data)} bytes came in place of {stop - start}")
        return data

    return _with_retries(address, request, policy) if stop > start else b""


def _receive(
    system: Any,
    address: str,
    span: tuple[int, int] | None,
    most: int,
    write: Callable[[bytes], Any],
    limits: dict[str, float],
) -> None:
    """What a web server sends of a file, or of the bytes ``span`` of it, piece by piece;
    :class:`TooLong` as soon as that is more than ``most`` bytes."""
    from fsspec.asyn import sync

    headers = {"Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}

    async def receive() -> None:
        session, received = await system.set_session(), 0
        async with session.get(system.encode_url(address), headers=headers) as answer:
            if answer.status == 404:
                raise FileNotFoundError(address)
            answer.raise_for_status()
            async for piece in answer.content.iter_any():
                received += len(piece)
                if received > most:
                    raise TooLong(address, f"more than {most} bytes came, which were not asked for")
                write(piece)

    sync(system.loop, receive, **limits)


def read_bytes(path: str | Path, max_bytes: int) -> bytes:
    """A file of this machine or elsewhere, as far as it has at most a little more than
    ``max_bytes``. OSError."""
    if is_address(path):
        size = size_of(path)
        return fetch(path, 0, min(size, max_bytes + 1), DEFAULT, size)
    data = bytearray()
    with open(path, "rb") as file:
        while len(data) <= max_bytes and (chunk := file.read(_CHUNK)):
            data += chunk
    return bytes(data)


def cache_folder() -> Path:
    """Where files from elsewhere are kept: ``$SLOWFAST_CACHE``, else ``~/.cache/slowfast``."""
    return Path(os.environ.get("SLOWFAST_CACHE") or "~/.cache/slowfast").expanduser()


def local_copy(path: str | Path) -> Path:
    """The path of a file on this machine: itself, or its copy in :func:`cache_folder`.

    A file is fetched once, by one process of this machine: again when its size or version (ETag)
    has changed, and then the earlier copy is removed. OSError if it cannot be fetched.
    """
    if not is_address(path):
        return Path(path).expanduser()
    size, version = version_of(path)
    versions = cache_folder() / "files" / short_hash(path)
    target = versions / short_hash(version) / path.rpartition("/")[2]

    def is_there() -> bool:
        return target.is_file() and target.stat().st_size == size

    if not is_there():
        with locked(versions.with_suffix(".lock")):  # one process of a machine fetches it
            if not is_there():
                make_dirs(target.parent)
                remove_leftovers([target])
                logger.info("fetching %s (%.1f MB) to %s", path, size / 1e6, target.parent)
                download(path, target, size)
                _remove_others(target.parent)
    return target


def is_recent(path: Path) -> bool:
    """Whether a copy was made or used so lately that a process may be about to open it."""
    return time.time() - path.stat().st_mtime <= _RECENT_S


def _remove_others(folder: Path) -> None:
    """Remove earlier versions of a file; not those that a process may be about to open."""
    for other in folder.parent.iterdir():
        if other != folder and not is_recent(other):
            shutil.rmtree(other, ignore_errors=True)


def download(
    address: str, target: Path, size: int | None = None, policy: RetryPolicy = DEFAULT
) -> None:
    """Fetch a whole file part by part, each with its repetitions, to ``target``, which is complete
    or not there. OSError if it cannot be fetched or written."""
    size = size_of(address, policy) if size is None else size

    def write(temporary: str) -> None:
        with open(temporary, "wb") as file:
            try:
                for start in range(0, size, _PART):
                    data = fetch(address, start, min(start + _PART, size), policy, size)
                    file.write(data)
                    if len(data) == size:  # of a server without ranges
                        break
            except TooLong:  # of such a server, too; or it sends what it likes, as the limit says
                _stream(address, file, size)

    try:
        write_atomic(target, write)
    except RunFailure as error:  # of the storage, or of the disk
        cause = error.__cause__
        raise cause if isinstance(cause, OSError) else error from None


def _stream(address: str, file: BinaryIO, size: int) -> None:
    """Fetch a whole file of a web server in one piece."""

    def request(system: Any, limits: dict[str, float]) -> None:
        file.seek(0)
        file.truncate()
        _receive(system, address, None, size, file.write, limits)
        if file.tell() != size:
            raise ValueError(f"{file.tell()} bytes came in place of {size}")

    _with_retries(address, request, in_one_piece(size))


def in_one_piece(size: int) -> RetryPolicy:
    """How long a transfer of ``size`` bytes by one request may take: 1 MiB a second is enough."""
    request_s = DEFAULT.request_s + size / _SLOWEST
    return RetryPolicy(DEFAULT.tries, request_s, DEFAULT.total_s + 2 * request_s)


def upload(path: Path, address: str) -> None:
    """Copy a file of this machine to an address, in one piece: a reader sees the old one or the
    new one. RemoteError if it cannot be written.

    The library of the storage repeats parts of it, and this all of it.
    """

    def request(system: Any, limits: dict[str, float]) -> None:
        system.put_file(str(path), address, **limits)

    _with_retries(address, request, in_one_piece(path.stat().st_size), repeats_itself=True)


def write_bytes(address: str, data: bytes) -> None:
    """Write a small file. RemoteError if it cannot be written."""
    _with_retries(
        address, lambda system, limits: system.pipe_file(address, data, **limits), DEFAULT
    )


def remove(address: str) -> None:
    """Remove a file, if it is there; RemoteError if it cannot be removed."""
    with contextlib.suppress(FileNotFoundError):
        _with_retries(address, lambda system, limits: system.rm_file(address), DEFAULT)


def names_below(address: str) -> dict[str, int]:
    """Names relative to a folder -> sizes, of all files below it; empty if there are none."""
    return {name: size for name, (size, _) in versions_below(address).items()}


def versions_below(address: str) -> dict[str, tuple[int, str]]:
    """The same with what :func:`version_of` says of each file."""
    folder = address.rstrip("/")

    def request(system: Any, limits: dict[str, float]) -> dict[str, tuple[int, str]]:
        system.invalidate_cache()
        root = system._strip_protocol(folder)
        found = system.find(folder, detail=True, **limits)
        return {
            name.removeprefix(root).lstrip("/"): (facts["size"], _version(facts))
            for name, facts in found.items()
        }

    try:
        return _with_retries(address, request, DEFAULT)
    except FileNotFoundError:
        return {}
