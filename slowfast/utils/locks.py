"""A lock on a folder that works between machines: :class:`FolderLock`.

The lock is a file that names its owner: host, process, the time at which that process started. It
is created as a hard link, which is atomic on NFS too, and its owner refreshes its modification time
(the heartbeat). flock is not used: some network file systems ignore it.

A lock whose owner has gone is taken over. On the same machine (same boot, same numbering of
processes) the process table says so; elsewhere the owner has gone when its heartbeat has been
silent for :data:`SILENT_S`, measured by the clock of the file system. Of several processes that
find the same dead lock one wins: the right to replace it is a file of its own, named after the dead
lock and created in the same way.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.files import failure_of

NAME = "run.lock"
HEARTBEAT_S = 15.0
SILENT_S = 120.0
_POLL_S = 1.0
# File systems without hard links, and those that forbid them.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EACCES, errno.EMLINK}


@dataclass(frozen=True)
class Owner:
    """Who holds a lock. ``machine`` tells whose process table knows ``pid``; ``started`` tells it
    from a later process with the same number; ``token`` is unique."""

    host: str = "unknown"
    machine: str = ""
    pid: int = 0
    started: str = ""
    since: str = ""
    token: str = ""

    @classmethod
    def this_process(cls) -> Owner:
        """This process, with a new token."""
        now = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        pid = os.getpid()
        return cls(socket.gethostname(), _machine(), pid, _start(pid), now, secrets.token_hex(8))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})"


class FolderLock:
    """``with FolderLock(folder):`` one process uses ``folder``; UserError naming the other one."""

    def __init__(self, folder: str | Path, key: str = "", wait_s: float = 0.0):
        self.folder, self.key, self.wait_s = Path(folder), key, wait_s
        self.path = self.folder / NAME
        self.owner = Owner.this_process()
        self._end = threading.Event()

    def __enter__(self) -> FolderLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock; UserError if a process of this machine has it, one of another machine
        still has it after ``wait_s`` seconds, or the folder cannot be written."""
        end = time.monotonic() + self.wait_s
        try:
            while not self._try_until(end):
                time.sleep(0.01)  # another process is replacing the dead lock
            self._clear()
        except OSError as error:
            raise self._unwritable(error) from error
        threading.Thread(target=self._beat, name="heartbeat of the lock", daemon=True).start()

    def release(self) -> None:
        """Give the lock back, if this process has it."""
        self._end.set()
        if os.getpid() == self.owner.pid and self._token(self.path) == self.owner.token:
            with contextlib.suppress(OSError):  # a lock that stays is found to be dead
                self.path.unlink()

    def check(self) -> None:
        """RunFailure if the lock has gone or another process has it: this one was silent for too
        long, or the folder was deleted."""
        try:
            owner, _ = self._holder()
        except FileNotFoundError:
            raise RunFailure(
                f"{self.path} has gone: the folder was deleted, renamed or cleared during the run",
                "start again; leave the folder alone while a run uses it",
                self.key,
            ) from None
        if owner.token != self.owner.token:
            raise RunFailure(
                f"{self.folder} was taken over by {owner}, because this run, {self.owner}, was "
                f"silent for more than {SILENT_S:g} s or its lock was deleted",
                "see which of the two is to go on",
                self.key,
            )

    def _unwritable(self, error: OSError) -> UserError:
        failure = failure_of(error, self.folder, self.key, "write to")
        is_place = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
        return UserError(failure.problems) if is_place else failure

    # -- taking ----------------------------------------------------------------------------------

    def _try_until(self, end: float) -> bool:
        try:
            return self._try()
        except UserError:
            with contextlib.suppress(FileNotFoundError):  # released in between
                # Of a process on this machine it is known that it lives.
                if time.monotonic() > end or self._holder()[0].machine == _machine():
                    raise
            time.sleep(_POLL_S)
            return False

    def _try(self) -> bool:
        """True when the lock is ours, False to try again."""
        claims = [self.path]
        while not self._create(claims[-1]):
            try:
                owner, age = self._holder(claims[-1])
            except FileNotFoundError:
                return False  # it was released in between
            if not has_gone(owner, age):
                if len(claims) > 1:
                    return False
                raise self._refusal(owner, age)
            claims.append(self.path.with_name(f".{NAME}.{owner.token}.taken"))
        return len(claims) == 1 or self._replace(claims)

    def _replace(self, claims: list[Path]) -> bool:
        """Replace the dead lock; ``claims`` are the lock and the rights to replace, each named
        after the dead owner of the one before, the last one ours."""
        names = [f".{NAME}.{self._token(claim)}.taken" for claim in claims[:-1]]
        valid = names == [claim.name for claim in claims[1:]]  # else another was faster and is done
        if valid:
            os.replace(self._write_own(), self.path)
        for claim in reversed(claims[1:] if valid else claims[-1:]):
            claim.unlink(missing_ok=True)
        return valid

    def _create(self, path: Path) -> bool:
        """Create ``path`` with our name in it; False if it exists."""
        own = self._write_own()
        try:
            # The answer to a link may be lost on NFS: the number of links tells.
            with contextlib.suppress(FileExistsError):
                os.link(own, path)
            return own.stat().st_nlink > 1
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            try:
                with open(path, "x", encoding="utf-8") as file:
                    file.write(own.read_text(encoding="utf-8"))
            except FileExistsError:
                return False
            return True
        finally:
            own.unlink(missing_ok=True)

    def _write_own(self) -> Path:
        own = self.path.with_name(f".{NAME}.{self.owner.token}.{secrets.token_hex(4)}.tmp")
        try:
            own.write_text(json.dumps(asdict(self.owner)) + "\n", encoding="utf-8")
        except OSError:
            own.unlink(missing_ok=True)
            raise
        return own

    def _refusal(self, owner: Owner, age: float) -> UserError:
        if owner.machine == _machine():
            remedy = "wait for that process or stop it"
        else:
            remedy = (
                f"wait for that process or stop it; if it has gone: its last sign was {age:.0f} s "
                f"ago, after {SILENT_S:g} s the next start takes the folder over"
            )
        return UserError(
            f"{self.folder} is in use by {owner}", f"{remedy}, or name another folder", self.key
        )

    # -- files -----------------------------------------------------------------------------------

    def _holder(self, path: Path | None = None) -> tuple[Owner, float]:
        """(owner, seconds since its last sign) of the lock or of a right to replace one."""
        path = path or self.path
        modified = path.stat().st_mtime_ns
        try:
            owner = Owner(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):  # empty, incomplete or foreign: its age decides
            owner = Owner(since="an unknown time", token=f"unreadable-{modified}")
        return owner, self._now() - modified / 1e9

    def _token(self, path: Path) -> str:
        with contextlib.suppress(OSError):
            return self._holder(path)[0].token
        return ""

    def _now(self) -> float:
        """The time of the file system, whose server's clock may differ from ours."""
        probe = self.path.with_name(f".{NAME}.{self.owner.token}.{secrets.token_hex(4)}.tmp")
        try:
            probe.touch()
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def _clear(self) -> None:
        """Remove what killed processes have left."""
        now = self._now()
        for path in self.folder.glob(f".{NAME}.*"):
            with contextlib.suppress(FileNotFoundError):
                if now - path.stat().st_mtime > SILENT_S:
                    path.unlink()

    def _beat(self) -> None:
        while not self._end.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError):  # check() reports a lock that has gone
                if self._token(self.path) == self.owner.token:
                    os.utime(self.path)


def has_gone(owner: Owner, age: float) -> bool:
    """Whether the owner of a lock, whose last sign is ``age`` seconds old, does not live."""
    if owner.machine and owner.machine == _machine():
        return not _is_hidden(owner.pid) and _start(owner.pid) != owner.started
    return age > SILENT_S


def _is_hidden(pid: int) -> bool:
    """Whether the process lives, but is another user's and not shown to us."""
    if Path(f"/proc/{pid}").exists():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def _machine() -> str:
    """What processes that see the same process table have in common; empty if unknown."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    return ""


def _start(pid: int) -> str:
    """When a process started, in the kernel's units; empty if it has ended."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        fields = text.rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    return ""


@contextlib.contextmanager
def folder_lock(folder: str | Path, key: str = "", wait_s: float = 0.0) -> Iterator[FolderLock]:
    """:class:`FolderLock`, which :func:`check_lock` knows meanwhile."""
    with FolderLock(folder, key, wait_s) as lock:
        _held[lock.folder.absolute()] = lock
        try:
            yield lock
        finally:
            del _held[lock.folder.absolute()]


def check_lock(folder: str | Path) -> None:
    """RunFailure if this process has taken the lock of ``folder`` and lost it meanwhile."""
    lock = _held.get(Path(folder).absolute())
    if lock is not None:
        lock.check()


_held: dict[Path, FolderLock] = {}
