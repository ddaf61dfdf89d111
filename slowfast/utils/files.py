"""Files of this machine: atomic writing and hashing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from slowfast.utils.errors import RunFailure, UserError

_SPACE = "free some space"
_PERMISSIONS = "check permissions, or name a folder in which files can be created"
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EMFILE: "raise the number of files that a process may open (ulimit -n 4096)",
    errno.ENFILE: "too many files are open on this machine",
    errno.EROFS: _PERMISSIONS,
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.ENOENT: "was it, or its folder, deleted or renamed?",
}


def failure_of(
    error: OSError, path: str | Path = "", key: str = "", action: str = "read or write"
) -> RunFailure:
    """The failure that names the file of an error of the system, its cause and a remedy.

    ``path``: the file, where the error does not name it; ``action``: what cannot be done to it.
    """
    name = path or error.filename or ""
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    cause = error.strerror or str(error) or type(error).__name__
    head = f"cannot {action} {name}" if name else "the system reports an error"
    return RunFailure(f"{head}: {cause}", _REMEDIES.get(error.errno, ""), key)


_TEMPORARY = re.compile(r"(?P<start>\..+\.[0-9a-f]{4}-)(?P<process>[0-9]{1,9})-[0-9a-f]{8}\.tmp")
_LONGEST_NAME = 200  # bytes; a file's name has 255 at most
_PARKED = ".old"  # ends the name of a folder while another one takes its place


def make_dirs(path: str | Path, key: str = "") -> Path:
    """Create the folder ``path``; UserError naming ``key`` when that cannot be done."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create the folder {path}: {error.strerror}", key=key) from error
    return path


def write_atomic(path: str | Path, write: Callable[[str], None]) -> None:
    """Let ``write(temporary path)`` write a file, sync it and rename it to ``path``.

    A reader sees the old file or the complete new one; RunFailure leaves the old one. A device, a
    pipe or an open file (``/dev/null``, ``/dev/stdout``) is written into and stays what it is.
    """
    path = Path(path)
    if _is_open_or_device(path):
        _write_into(path, write)
        return
    temporary = path.with_name(f"{_temporary_start(path)}{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        temporary.touch(exist_ok=False)  # with the umask's permissions; mkstemp's are private
        write(str(temporary))
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise failure_of(error, path, action="write") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _is_open_or_device(path: Path) -> bool:
    """Whether ``path`` is no file of a folder: renaming another one to it would destroy it."""
    if path.is_symlink():
        path = path.parent / os.readlink(path)
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    folder = os.path.realpath(path.parent)
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or folder.startswith("/proc/")


def _write_into(path: Path, write: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        temporary = os.path.join(folder, path.name)
        Path(temporary).touch()
        write(temporary)
        try:
            # What stands in an open file before (a shell's ">>") stays.
            with open(temporary, "rb") as source, open(path, "ab") as target:
                shutil.copyfileobj(source, target)
        except OSError as error:
            raise failure_of(error, path, action="write") from error


def append_line(path: str | Path, text: str) -> None:
    """Append ``text`` as a line of its own, also after one that a killed process has left half
    written. OSError if that is not possible."""
    with open(path, "a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            text = text if file.read(1) == b"\n" else f"\n{text}"
        file.write(f"{text}\n".encode())


def replace_folder(path: str | Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill(temporary folder)`` write files, sync them, and put the folder in the place of
    ``path``.

    RunFailure leaves the old folder. A process that is killed leaves the old or the new folder,
    after :func:`settle_folders` of its parent; one process at a time may write there.
    """
    path = Path(path)
    settle_folders(path.parent)
    temporary = path.with_name(f"{_temporary_start(path)}{os.getpid()}-{secrets.token_hex(4)}.tmp")
    parked = path.with_name(f".{path.name}{_PARKED}")
    try:
        temporary.mkdir()
        fill(temporary)
        for folder, _, names in os.walk(temporary, topdown=False):
            for name in names:
                with open(os.path.join(folder, name), "rb+") as file:
                    os.fsync(file.fileno())
            _sync_folder(Path(folder))
        if path.exists():  # no system call exchanges folders everywhere
            os.rename(path, parked)
        os.rename(temporary, path)
        _sync_folder(path.parent)
        shutil.rmtree(parked, ignore_errors=True)
    except OSError as error:
        raise failure_of(error, path, action="write") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if parked.exists() and not path.exists():
            os.rename(parked, path)


def settle_folders(parent: str | Path) -> None:
    """Finish what killed calls of :func:`replace_folder` have left in ``parent``."""
    for name in os.listdir(parent) if os.path.isdir(parent) else ():
        left, found = Path(parent, name), _TEMPORARY.fullmatch(name)
        if name.startswith(".") and name.endswith(_PARKED) and left.is_dir():
            path = left.with_name(name[1 : -len(_PARKED)])
            if path.exists():
                shutil.rmtree(left, ignore_errors=True)
            else:
                os.rename(left, path)
        elif found and left.is_dir() and not _is_running(int(found["process"])):
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """One process of this machine at a time; the lock ends with its holder, however that ends. For
    what is wasted, and not wrong, if two do it; :class:`slowfast.utils.locks.FolderLock` works
    between machines."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def file_hash(path: str | Path) -> str:
    """The SHA-256 of a file in hexadecimal digits, as ``sha256sum`` prints it."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _temporary_start(path: Path) -> str:
    """How the names of temporary files of ``path`` begin on this machine."""
    name = path.name if len(os.fsencode(path.name)) <= _LONGEST_NAME else short_hash(path.name)
    return f".{name}.{short_hash(platform.node())[:4]}-"


def _without_machine(start: str) -> str:
    """What of :func:`_temporary_start` is the same on every machine."""
    return start[: start.rindex(".")]


def remove_leftovers(paths: Iterable[str | Path], of_all_machines: bool = False) -> None:
    """Remove the temporary files of ``paths`` that killed processes of this machine have left.
    ``of_all_machines``: also those of other machines; only where no other process writes these
    files at the same time."""
    starts: dict[Path, set[str]] = {}
    for path in map(Path, paths):
        starts.setdefault(path.parent, set()).add(_temporary_start(path))
    for folder, known in starts.items():
        names = set(map(_without_machine, known))
        for name in os.listdir(folder) if folder.is_dir() else ():
            found = _TEMPORARY.fullmatch(name)
            if found is None:
                continue
            is_ours = found["start"] in known
            is_left = is_ours and not _is_running(int(found["process"]))
            is_elsewhere = not is_ours and _without_machine(found["start"]) in names
            if is_left or (of_all_machines and is_elsewhere):
                (folder / name).unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    try:  # an ended one stays in the table until it is waited for, which not every container does
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state not in ("Z", "X")


def write_text_atomic(path: str | Path, text: str) -> None:
    """:func:`write_atomic` for a text."""
    write_atomic(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut; not every file system allows it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def short_hash(*parts: str | bytes) -> str:
    """Twelve hexadecimal digits of the SHA-256 of ``parts``."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:12]
