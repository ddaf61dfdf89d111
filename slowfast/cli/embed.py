"""Write what a network makes of videos into Parquet files, for search and for other programs.

Of each window of each video: path, times, class scores, and the features before the classifier as
a vector of float16 with length one. VIDEO is a file, a folder (with all below it), a list (.csv,
.txt), an address, or "-" for paths from standard input. A stopped call goes on. Exit code 1: some
videos could not be read; failed.tsv names them.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from slowfast.cli.options import add_checkpoint, add_network, add_where, network, say_ignored, where

EXAMPLES = """examples:
  {prog} output/mine videos --out embeddings
  {prog} clip.pyth list.csv --window 4 --stride 2 --opts TEST.NUM_ENSEMBLE_VIEWS 1
  {prog} uniformer_small_k400_16x4.pth list.txt --cfg Kinetics/UNIFORMER_S --shard 3/8
"""
_MOST_NAMED = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_checkpoint(parser)
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="see above")
    parser.add_argument("--out", default="embeddings", help="folder to write to (embeddings)")
    parser.add_argument(
        "--window", type=float, default=2.0, help="seconds of a window; 0: whole videos (2)"
    )
    parser.add_argument("--stride", type=float, default=0.0, help="seconds between two (--window)")
    parser.add_argument("--per-file", type=int, default=1000, help="videos in a file (1000)")
    add_network(parser)
    add_where(parser, "one for each GPU")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from slowfast.inference.collect import collect, is_live
    from slowfast.inference.embeddings.work import VIDEOS, Plan, embed
    from slowfast.utils.errors import UserError
    from slowfast.utils.logging import setup_logging
    from slowfast.utils.paths import refuse_overwriting

    setup_logging(None)
    place = where(args)
    for name in ("window", "stride"):
        if not 0 <= getattr(args, name) < math.inf:
            value = getattr(args, name)
            raise UserError(f"is {value:g}", "give a number of seconds", f"--{name}")
    if args.per_file < 1:
        raise UserError(f"is {args.per_file}", "1 or more", "--per-file")
    found = collect(args.videos)
    if not found.videos:
        raise UserError("there are no videos", "name files or folders", "VIDEO")
    live = [video for video in found.videos if is_live(video)]
    if live:
        raise UserError(f"{live[0]} is a camera or stream", "record it, name the file", "VIDEO")
    out = Path(args.out).expanduser()
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file", "name a folder", "--out")
    # A folder of frames is a video: nothing is written into it.
    refuse_overwriting([*found.videos, *found.lists], [out, out / VIDEOS], "--out")
    say_ignored(found)
    summary = embed(
        network(args), Plan(found.videos, out, args.window, args.stride, args.per_file), place
    )
    what = "windows" if args.window else "vectors"
    print(f"{summary.videos} videos, {summary.windows} {what} in {summary.files} files of {out}")
    for path, cause in list(summary.failed.items())[:_MOST_NAMED]:
        sys.stderr.write(f"unreadable: {path}: {cause}\n")
    if len(summary.failed) > _MOST_NAMED:
        sys.stderr.write(f"unreadable: {len(summary.failed)} in all, see failed.tsv\n")
    return 1 if summary.failed else 0
