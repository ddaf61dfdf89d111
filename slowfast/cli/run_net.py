"""Train and test a video model."""

from __future__ import annotations

import functools
from collections.abc import Sequence


def main(argv: Sequence[str], prog: str, overrides: Sequence[str]) -> int:
    """Run the command line; ``overrides`` are KEY VALUE words that precede its own."""
    from slowfast.cli.report import write_after_run
    from slowfast.engine.run import main as run

    return run(argv, overrides, prog, functools.partial(write_after_run, prog=prog))
