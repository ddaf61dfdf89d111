"""Make the embedded data set: H.264 clips of moving shapes, lists and class names."""

from __future__ import annotations

import argparse

EXAMPLES = "example: {prog} data/moving_shapes --classes 8"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("folder", help="where to write")
    parser.add_argument("--classes", type=int, default=16, help="even, 2 to 16 (default 16)")
    parser.add_argument("--train", type=int, default=40, help="clips of each class (40)")
    parser.add_argument("--val", type=int, default=8, help="clips of each class (8)")
    parser.add_argument("--test", type=int, default=15, help="clips of each class (15)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=None, help="processes (all cores)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from slowfast.datasets.moving_shapes import ShapesSpec, generate

    spec = ShapesSpec(args.classes, args.train, args.val, args.test, args.seed)
    made = generate(args.folder, spec, args.workers)
    print(f"{args.folder}: {'made' if made else 'already complete'}")
