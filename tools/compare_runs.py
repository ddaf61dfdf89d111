#!/usr/bin/env python3
"""Compare two few-shot runs task by task: accuracies, their difference and its 95 % interval.

Both were tested on the same tasks, so that the difference is known far better than either.
"""

import argparse

import _path  # noqa: F401

from slowfast.utils.cli import run_command

EXAMPLE = "example: python tools/compare_runs.py output/prototype output/staf"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE)
    parser.add_argument("a", help="OUTPUT_DIR of a run")
    parser.add_argument("b", help="OUTPUT_DIR of another")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from slowfast.analysis.compare import compare_runs

    found = compare_runs(args.a, args.b)
    print(f"{args.a}: {found.a} %")
    print(f"{args.b}: {found.b} %")
    sure = "beyond" if found.differs else "within"
    print(f"difference over {found.tasks} tasks: {found.difference} % ({sure} chance, 95 %)")


if __name__ == "__main__":
    run_command(main)
