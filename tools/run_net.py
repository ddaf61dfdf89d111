#!/usr/bin/env python3
"""Train and test a video model."""

import _path  # noqa: F401

from slowfast.utils.cli import run_command


def main() -> int:
    from slowfast.engine.run import main as run

    return run()


if __name__ == "__main__":
    run_command(main)
