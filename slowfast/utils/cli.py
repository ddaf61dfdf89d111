"""Running a command for a person: bad input gives one message and exit code 2.

Whatever happens, the command ends: its workers are killed, and a failed one whose libraries do not
let the interpreter end is ended by :data:`_END_S` seconds.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable

from slowfast.utils.console import flush_output, prepare_streams, printing
from slowfast.utils.errors import EXIT_USER_ERROR, Interrupted, UserError, VideoError
from slowfast.utils.files import failure_of
from slowfast.utils.processes import end_children, follow_launcher

EXIT_INTERRUPTED = 130
_EXIT_FAILURE = 1
_END_S = 8.0


def run_command(main: Callable[[], int | None], debug: bool | None = None) -> None:
    """Call ``main`` and exit with its code; ``--debug`` on the command line shows tracebacks."""
    prepare_streams()
    follow_launcher()
    # A warning about a dependency, not about the input: it would hide the error message.
    warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated")
    if debug is None:
        debug = "--debug" in sys.argv
    code = _EXIT_FAILURE
    try:
        code = _call(main, debug)
    except SystemExit as end:  # argparse, after a help or a wrong word; printing()
        code = int(end.code or 0)
        if not code:
            with contextlib.suppress(SystemExit), printing():
                pass
    finally:
        code = _report_output() or code
        _end(code)
    sys.exit(code)


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


def _end(code: int) -> None:
    """End worker processes, and see to it that a failure ends this one."""
    if code:
        threading.Thread(target=_force_end, args=(code,), daemon=True).start()
    end_children()
    gc.collect()  # loaders that nobody uses any more notice it before the interpreter ends


def _force_end(code: int) -> None:
    while threading.main_thread().is_alive():  # until the interpreter begins to end
        time.sleep(0.1)
    time.sleep(_END_S)
    os._exit(code)


def _print_error(text: str) -> None:
    flush_output()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
