"""Running a command for a person: bad input gives one message and exit code 2.

Whatever happens, the command ends: its workers are killed, and a failed one does not wait for
threads or libraries for longer than :data:`_END_S` seconds.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import NoReturn

from slowfast.utils.console import flush_output, prepare_streams, printing
from slowfast.utils.errors import EXIT_USER_ERROR, Interrupted, UserError, VideoError
from slowfast.utils.files import failure_of
from slowfast.utils.processes import end_children, follow_launcher

EXIT_INTERRUPTED = 130
_EXIT_FAILURE = 1
_END_S = 8.0


def run_command(main: Callable[[], int | None], debug: bool | None = None) -> NoReturn:
    """Call ``main`` and end the process with its code; ``--debug`` on the command line shows
    tracebacks."""
    prepare_streams()
    follow_launcher()
    try:
        code = exit_code(main, debug)
    except BaseException:  # noqa: BLE001 - the process ends with it
        sys.excepthook(*sys.exc_info())
        code = _EXIT_FAILURE
    _end(code)


def exit_code(main: Callable[[], int | None], debug: bool | None = None) -> int:
    """Call ``main``; its code, or that of the error, which is printed."""
    # A warning about a dependency, not about the input: it would hide the error message.
    warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated")
    if debug is None:
        debug = "--debug" in sys.argv
    try:
        code = _call(main, debug)
    except SystemExit as end:  # argparse, after a help or a wrong word; printing()
        code = int(end.code or 0)
        if not code:
            with contextlib.suppress(SystemExit), printing():
                pass
    return _report_output() or code


def _call(main: Callable[[], int | None], debug: bool) -> int:
    try:
        return main() or 0
    except (UserError, VideoError) as error:
        if debug:
            raise
        _print_error(f"error: {error}")
        return getattr(error, "exit_code", EXIT_USER_ERROR)
    except Interrupted as stop:
        _print_error(str(stop))
        return stop.exit_code
    except KeyboardInterrupt:
        _print_error("interrupted")
        return EXIT_INTERRUPTED
    except OSError as error:
        if debug:
            raise
        if _report_output():
            return _EXIT_FAILURE
        _print_error(f"error: {failure_of(error)}")
        return _EXIT_FAILURE


def _report_output() -> int:
    """Exit code of a command whose output was lost, else 0."""
    error = flush_output()
    if error is None:
        return 0
    _print_error(f"error: {failure_of(error, 'the standard output', action='write')}")
    return _EXIT_FAILURE


def _end(code: int) -> NoReturn:
    """End worker processes and this one; a failed one without what the interpreter does last:
    looking for garbage among all objects takes seconds, and threads and libraries may hang."""
    if not code:
        end_children()
        sys.exit(0)
    timer = threading.Timer(_END_S, os._exit, (code,))
    timer.daemon = True
    timer.start()
    end_children()
    atexit._run_exitfuncs()  # of libraries: what they have still to write
    flush_output()
    sys.stderr.flush()
    os._exit(code)


def _print_error(text: str) -> None:
    flush_output()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
