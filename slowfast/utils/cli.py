"""Running a command for a person: bad input gives one message and exit code 2."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable

from slowfast.utils.errors import EXIT_USER_ERROR, Interrupted, UserError, VideoError

EXIT_INTERRUPTED = 130


def run_command(main: Callable[[], int | None], debug: bool | None = None) -> None:
    """Call ``main`` and exit with its code; ``--debug`` on the command line shows tracebacks."""
    # A warning about a dependency, not about the input: it would hide the error message.
    warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated")
    if debug is None:
        debug = "--debug" in sys.argv
    code = _call(main, debug)
    gc.collect()  # ends loader workers that are still referenced, before the interpreter does
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
    except BrokenPipeError:  # the reader of a pipe (head, less) has gone
        sys.stderr.close()
        return 0


def _print_error(text: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
