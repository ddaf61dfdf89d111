#!/usr/bin/env python3
"""Compare two few-shot runs episode by episode: accuracies, their difference, its 95 % interval.

Both were tested on the same episodes, so that the interval of the difference is far smaller than
those of the accuracies.
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

    result = compare_runs(args.a, args.b)
    print(f"{args.a}: {result.a} %")
    print(f"{args.b}: {result.b} %")
    verdict = "beyond" if result.differs else "within"
    print(
        f"difference over {result.episodes} episodes: {result.difference} % "
        f"({verdict} chance, 95 %)"
    )


if __name__ == "__main__":
    run_command(main)
