#!/usr/bin/env python3
"""Compare networks and framework tables with the numbers of the published implementations."""

import argparse

import _path  # noqa: F401

from slowfast.utils.cli import run_command


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python tools/parity.py tests/parity/cases/uniformer"
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="case files or folders of them")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    from slowfast.analysis.parity import find_cases, run_file

    passed = failed = informative = 0
    for path in find_cases(args.paths):
        result = run_file(path)
        print(result, flush=True)
        if result.required:
            passed, failed = passed + result.passed, failed + (not result.passed)
        else:
            informative += 1
    if informative:
        print(f"{informative} tables that are not required, see above")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed + informative else 0


if __name__ == "__main__":
    run_command(main)
