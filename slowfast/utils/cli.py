"""Running a command for a person: bad input gives one message and exit code 2."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

from slowfast.utils.errors import EXIT_USER_ERROR, UserError, VideoError


def run_command(main: Callable[[], int | None], debug: bool | None = None) -> None:
    """Call ``main`` and exit with its code; ``--debug`` on the command line shows tracebacks."""
    # A dependency's own business; a person reading an error should see the error.
    warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated")
    if debug is None:
        debug = "--debug" in sys.argv
    try:
        sys.exit(main() or 0)
    except (UserError, VideoError) as error:
        if debug:
            raise
        sys.stdout.flush()
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_USER_ERROR)
    except BrokenPipeError:  # the reader of a pipe (head, less) has gone
        sys.stderr.close()
        sys.exit(0)
