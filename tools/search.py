#!/usr/bin/env python3
"""The command `slowfast search`: slowfast/cli/search.py."""

import _path  # noqa: F401

from slowfast.cli.main import run_tool

if __name__ == "__main__":
    run_tool("search")
