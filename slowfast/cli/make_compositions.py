"""Make the embedded set for few-shot and zero-shot work: 36 classes of composed motions.

A class is a direction, a path and a profile of speed; 22 classes train, 6 validate, 8 test.
"""

from __future__ import annotations

import argparse

EXAMPLES = "example: {prog} data/compositions --train 40"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("folder", help="where to write")
    parser.add_argument("--train", type=int, default=40, help="clips of each training class (40)")
    parser.add_argument("--test", type=int, default=40, help="clips of each other class (40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=None, help="processes (all cores)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from slowfast.datasets.compositions import CompositionsSpec, generate

    made = generate(args.folder, CompositionsSpec(args.train, args.test, args.seed), args.workers)
    print(f"{args.folder}: {'made' if made else 'already complete'}")
