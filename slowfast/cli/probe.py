"""Test the features of a trained network on other videos: a linear probe, or nearest neighbours.

DATA is a folder of class folders (of which --test is the share that tests), a folder with train/
and test/ of class folders, or a folder of lists (train.csv, test.csv, classes.txt). The features of
each video are computed once and kept in --out. A linear probe is saved as a network (probe.pyth),
for predict, export and fine-tuning. Exit code 1: some test videos could not be read.
"""

from __future__ import annotations

import argparse
import os

from slowfast.cli.options import add_checkpoint, add_device, add_overrides, override_words

EXAMPLES = """examples:
  {prog} output/mine data/moving_shapes_8/videos --out output/probe
  {prog} uniformer_small_k400_16x4.pth videos --cfg finetune/uniformer_s --method knn --out probed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_checkpoint(parser)
    parser.add_argument("data", help="folder of class folders, or of lists")
    parser.add_argument("--out", default="output/probe", help="folder to write to (output/probe)")
    parser.add_argument("--method", choices=("linear", "knn"), default="linear")
    parser.add_argument("--neighbours", type=int, default=5, help="knn: how many vote (5)")
    parser.add_argument("--test", type=float, default=0.3, help="class folders: share (0.3)")
    parser.add_argument("--seed", type=int, default=0, help="class folders: of the division (0)")
    parser.add_argument("--prefix", default="", help="lists: put in front of their paths")
    add_device(parser)
    add_overrides(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    import slowfast
    from slowfast.inference.probe import PROBE, probe, read_data
    from slowfast.inference.trained import read_trained
    from slowfast.utils.errors import UserError
    from slowfast.utils.logging import setup_logging
    from slowfast.utils.paths import is_within, prepare_outputs

    setup_logging(None)
    if args.neighbours < 1:
        raise UserError(f"{args.neighbours} neighbours cannot vote", "1 or more", "--neighbours")
    if not 0 < args.test < 1:
        raise UserError(f"is {args.test:g}", "a share of the videos, as 0.3", "--test")
    if not os.path.isfile(f"{args.data}/train.csv") and is_within(args.out, args.data):
        raise UserError(f"{args.out} lies in {args.data}, which is read", "another folder", "--out")
    path = read_trained(args.checkpoint).path
    prepare_outputs([f"{args.out}/{PROBE}"], [path], "--out")
    data = read_data(args.data, args.prefix, args.test, args.seed)
    words = override_words(args.imports, args.opts)
    predictor = slowfast.load(args.checkpoint, args.device, cfg=args.cfg, overrides=words)
    result = probe(predictor, path, data, args.out, args.method, args.neighbours)
    print(result.details)
    print(f"top-1 {result.accuracy} % of {result.videos} videos (95 % interval)")
    if result.unreadable:
        print(f"{result.unreadable} test videos could not be read")
    print(f"results: {result.folder}")
    if result.saved:
        print(f"network: {result.saved}")
    return 1 if result.unreadable else 0
