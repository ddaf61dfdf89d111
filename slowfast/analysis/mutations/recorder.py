"""Records which lines of the package a process executes; stands alone.

A copy of this file named ``sitecustomize.py`` on PYTHONPATH makes every Python process record,
those that tests start included: each line is written once, as ``path:line``, to the file that the
environment variable ``SLOWFAST_LINES`` names. A test run empties that file after each test.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

FILE, ROOT = "SLOWFAST_LINES", "SLOWFAST_LINES_ROOT"
Tracer = Callable[[FrameType, str, Any], Any]


class Recorder:
    """Writes each executed line of files below ``root`` to ``file``, once until :meth:`forget`."""

    def __init__(self, file: str, root: str):
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._prefix = os.path.join(root, "slowfast", "")
        self._start = len(root) + 1
        self._left: dict[CodeType, set[int]] = {}

    def install(self) -> None:
        """Record from now on, in all threads of this process and in processes forked from it."""
        threading.settrace(self._enter)
        sys.settrace(self._enter)

    def forget(self) -> None:
        """Record lines again that were recorded before."""
        self._left.clear()

    def _enter(self, frame: FrameType, event: str, value: Any) -> Tracer | None:
        code = frame.f_code
        if not code.co_filename.startswith(self._prefix):
            return None
        left = self._left.get(code)
        if left is None:
            left = self._left[code] = {line for _, _, line in code.co_lines() if line}
        if not left:
            return None
        self._write(code, left, frame.f_lineno)
        return self._line

    def _line(self, frame: FrameType, event: str, value: Any) -> Tracer | None:
        left = self._left.get(frame.f_code)
        if left and frame.f_lineno in left:
            self._write(frame.f_code, left, frame.f_lineno)
        return self._line

    def _write(self, code: CodeType, left: set[int], line: int) -> None:
        left.discard(line)
        os.write(self._descriptor, f"{code.co_filename[self._start :]}:{line}\n".encode())


def from_environment() -> Recorder | None:
    """The recorder that the environment asks for, installed; None if it asks for none."""
    if FILE not in os.environ:
        return None
    recorder = Recorder(os.environ[FILE], os.environ[ROOT])
    recorder.install()
    return recorder


if __name__ == "sitecustomize":
    from_environment()
