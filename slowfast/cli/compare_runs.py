"""Compare two few-shot runs episode by episode: accuracies, their difference, its 95 % interval.

Both were tested on the same episodes, so that the interval of the difference is far smaller than
those of the accuracies.
"""

from __future__ import annotations

import argparse

EXAMPLES = "example: {prog} output/prototype output/staf"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("a", help="OUTPUT_DIR of a run (its last test), or the folder of a test")
    parser.add_argument("b", help="OUTPUT_DIR of another")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from slowfast.analysis.compare import compare_runs

    result = compare_runs(args.a, args.b)
    print(f"{args.a}: {result.a} %")
    print(f"{args.b}: {result.b} %")
    verdict = "beyond" if result.differs else "within"
    print(
        f"difference over {result.episodes} episodes: {result.difference} % "
        f"({verdict} chance, 95 %)"
    )
