#!/usr/bin/env python3
"""Write the generated files under exp/: scripts, heads over frames, and the index exp/README.md.

With --check nothing is written; files that are out of date are named, and the exit code is 1.
"""

import argparse

import _path

from slowfast.utils.cli import run_command


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python tools/make_experiments.py --check",
    )
    parser.add_argument("--check", action="store_true", help="write nothing, name what differs")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    from slowfast.analysis.experiments import stale_files, write_files

    files = stale_files(_path.ROOT) if args.check else write_files(_path.ROOT)
    for path in files:
        print(f"{'out of date' if args.check else 'wrote'}: {path.relative_to(_path.ROOT)}")
    return int(args.check and bool(files))


if __name__ == "__main__":
    run_command(main)
