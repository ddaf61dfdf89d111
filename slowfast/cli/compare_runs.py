"""Compare two few-shot runs task by task: accuracies, their difference and its 95 % interval.

Both were tested on the same tasks, so that the difference is known far better than either.
"""

from __future__ import annotations

import argparse

EXAMPLES = "example: {prog} output/prototype output/staf"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("a", help="OUTPUT_DIR of a run")
    parser.add_argument("b", help="OUTPUT_DIR of another")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from slowfast.analysis.compare import compare_runs

    found = compare_runs(args.a, args.b)
    print(f"{args.a}: {found.a} %")
    print(f"{args.b}: {found.b} %")
    sure = "beyond" if found.differs else "within"
    print(f"difference over {found.tasks} tasks: {found.difference} % ({sure} chance, 95 %)")
