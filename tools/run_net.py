#!/usr/bin/env python3
"""Train and test a video model: the command `slowfast run`."""

import _path  # noqa: F401

from slowfast.cli.main import run_tool

if __name__ == "__main__":
    run_tool("run")
