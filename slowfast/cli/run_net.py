"""Train and test a video model."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str], prog: str, overrides: Sequence[str]) -> int:
    """Run the command line; ``overrides`` are KEY VALUE words that precede its own."""
    from slowfast.engine.run import main as run

    return run(argv, overrides, prog)
