"""Standard output and error of a command: closed, full, a pipe without a reader, plain ASCII."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class _ClosedStream(io.TextIOBase):
    """What stands for a standard stream that the caller has closed: a flush after writing fails."""

    encoding = "utf-8"
    _is_lost = False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._is_lost = True
        return len(text)

    def flush(self) -> None:
        if self._is_lost:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))


class ErrorStream:
    """Standard error of a command: what cannot be written is lost, and nothing else happens.

    Nobody can be told of it, and no message or progress bar is worth a training.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write what can be written."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be written."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def prepare_streams() -> None:
    """Make the standard streams safe to use, whatever the caller has made of them.

    Characters that an encoding lacks (LC_ALL=C) are written as escapes. The numbers of closed
    streams are occupied, since else a checkpoint would become standard output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    sys.stdout = sys.stdout or _ClosedStream()
    sys.stderr = sys.stderr or _ClosedStream()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")
    if not isinstance(sys.stderr, ErrorStream):
        sys.stderr = ErrorStream(sys.stderr)


def flush_output() -> OSError | None:
    """Flush standard output; the error if it cannot be written, which is then given up."""
    try:
        sys.stdout.flush()
    except OSError as error:
        give_up_output()
        return error
    return None


def give_up_output() -> None:
    """Send what is still to be written to standard output nowhere; Python would fail at exit."""
    sink = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(sink, sys.stdout.fileno())
    os.close(sink)
    if isinstance(sys.stdout, _ClosedStream):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Around what a command prints, if it does nothing else: a reader that has gone (``| head``)
    has seen what it wanted, so that the command ends with code 0."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        give_up_output()
        raise SystemExit(0) from None
