"""Compare networks and framework tables with the numbers of the published implementations."""

from __future__ import annotations

import argparse

EXAMPLES = "example: {prog} tests/parity/cases/uniformer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="case files or folders of them")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
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
