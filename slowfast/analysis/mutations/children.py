"""Test runs in forked processes: PyTorch is imported once, the package anew in each."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MEMORY = 16 << 30  # address space of a test run: a fault may ask for any amount
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)
_LIBRARIES = ("torch", "torchvision", "timm", "cv2", "av", "pytest", "hypothesis", "open_clip")


def prepare() -> None:
    """Import the libraries that every test needs, and become the parent of processes that lose
    theirs, so that none is left behind."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    for name in _LIBRARIES:
        try:
            __import__(name)
        except ImportError:
            continue  # an optional one: tests that need it say so
    sys.modules["torch"].set_num_threads(1)


@dataclass
class Child:
    """A forked process that runs ``work`` in the repository ``root``; output goes to ``log``."""

    pid: int
    deadline: float
    start: float

    @classmethod
    def fork(cls, work: Callable[[], int], root: Path, log: Path, limit: float) -> Child:
        """Start the process; ``limit``: seconds until it counts as standing still."""
        start = time.monotonic()
        pid = os.fork()
        if pid:
            return cls(pid, start + limit, start)
        code = 70  # what an error in this function gives
        try:
            _enter(root, log)
            code = work()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        """Exit code, None while it runs; -1000 if it was ended because its time was over."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() < self.deadline:
            return None
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return -1000


def _enter(root: Path, log: Path) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)  # sys.stdout writes to the same number
        os.dup2(file.fileno(), 2)
    os.chdir(root)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [*filter(None, [os.environ.get("SLOWFAST_RECORDER", "")]), str(root)]
    )
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    for name in list(sys.modules):
        if name.partition(".")[0] in ("slowfast", "tests", "_path"):
            del sys.modules[name]
    sys.path[:] = [str(root), *(p for p in sys.path if p and not Path(p, "slowfast").is_dir())]


def end_orphans(keep: set[int]) -> None:
    """End the children of this process that are not in ``keep``: processes that a finished test run
    has left."""
    for _ in range(50):
        orphans = _children() - keep
        if not orphans:
            return
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)  # its own children are ours now


def _children() -> set[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return {int(word) for word in text.split()}


def run_pytest(files: list[str], temporary: Path, plugin: Any) -> int:
    """pytest over test files of the current folder, in this process; its exit code."""
    import pytest

    options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", f"--basetemp={temporary}"]
    return int(pytest.main([*options, *files], plugins=[plugin]))
