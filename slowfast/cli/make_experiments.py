"""Write the generated files under exp/: scripts, heads over frames, and the index exp/README.md.

With --check nothing is written; files that are out of date are named, and the exit code is 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = "example: {prog} --check"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--check", action="store_true", help="write nothing, name what differs")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from slowfast.analysis.experiments import stale_files, write_files

    clone = Path(__file__).resolve().parents[2]
    files = stale_files(clone) if args.check else write_files(clone)
    for path in files:
        print(f"{'out of date' if args.check else 'wrote'}: {path.relative_to(clone)}")
    return int(args.check and bool(files))
