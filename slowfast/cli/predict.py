"""Say what videos show: classes and probabilities from a trained network, as JSON lines or CSV.

VIDEO is a file, a folder (with all below it), a list (.csv, .txt), an address, "-" for paths from
standard input, or the number of a camera or the address of a stream.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from slowfast.cli.options import add_checkpoint, add_network, add_where, network, say_ignored, where

if TYPE_CHECKING:
    from slowfast.inference.answers import Request
    from slowfast.inference.collect import Found
    from slowfast.inference.network import Network

EXAMPLES = """examples:
  {prog} output/mine video.mp4 folder
  {prog} output/mine/checkpoints/checkpoint_best.pyth videos --out answers.csv --top 3
  {prog} output/mine long.mp4 --window 2 --stride 1 --timeline long.png --annotate seen.mp4
  {prog} output/mine 0 --window 2 --limit 60
  {prog} clip.pyth video.mp4 --classes "feeding a cat, washing a dog"
  {prog} fewshot.pyth video.mp4 --support examples
  {prog} uniformer_small_k400_16x4.pth video.mp4 --cfg Kinetics/UNIFORMER_S --classes k400.json
"""
_WINDOW_S = 2.0  # where something needs windows and none are asked for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_checkpoint(parser)
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="see above")
    parser.add_argument("--out", default="", help="file to write (standard output)")
    parser.add_argument("--format", choices=("jsonl", "csv"), help="(by --out, else jsonl)")
    parser.add_argument("--top", type=int, default=5, help="classes to name (5)")
    parser.add_argument("--window", type=float, default=0.0, help="seconds of a sliding window")
    parser.add_argument("--stride", type=float, default=0.0, help="seconds between two (--window)")
    parser.add_argument("--timeline", default="", help="picture (.png) of the windows of a video")
    parser.add_argument("--annotate", default="", help="video (.mp4) with the classes drawn in")
    parser.add_argument("--limit", type=float, help="seconds after which a camera is closed")
    parser.add_argument(
        "--journal", action="store_true", help="with --out: a call that is repeated goes on"
    )
    add_where(parser, "one, or one for each GPU; this and the next four imply --journal")
    add_network(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from slowfast.inference.answers import answer_into, describe
    from slowfast.inference.collect import collect
    from slowfast.inference.many import answer_many
    from slowfast.inference.output import Lines, format_of
    from slowfast.utils.errors import Interrupted, UserError
    from slowfast.utils.map import HERE

    found = collect(args.videos)
    request = _request(args, found)
    form = format_of(args.out, args.format)
    named = network(args)
    _prepare_files(args, found, named)
    say_ignored(found)
    place = where(args)
    if args.journal or place != HERE:
        if not args.out:
            raise UserError("is needed by --journal and what implies it", "name a file", "--out")
        summary = answer_many(args.out, named, request, form, place)
    else:
        predictor = named.load()
        count = min(request.top, len(predictor.classes))
        lines = Lines(form, count, predictor.kind, request.has_spans)
        summary = answer_into(args.out, predictor, request, lines)
    sys.stderr.write(f"{describe(summary)}\n")
    # Ctrl-C is how one ends a camera.
    if summary.interrupted and not request.is_live:
        raise Interrupted(summary.interrupted)
    return 1 if summary.unreadable else 0


def _request(args: argparse.Namespace, found: Found) -> Request:
    """What is asked for; UserError if it cannot be."""
    from slowfast.inference.answers import Request
    from slowfast.utils.errors import UserError

    if not found.videos:
        raise UserError("there are no videos", "name files or folders", "VIDEO")
    for name in ("top", "window", "stride", "limit"):
        value = getattr(args, name)
        is_zero_meant = name in ("window", "stride")  # as without the option
        if value is not None and not (0 < value < math.inf or (value == 0 and is_zero_meant)):
            raise UserError(f"is {value:g}", "give a positive number", f"--{name}")
    request = Request(
        found.videos,
        args.top,
        args.window,
        args.stride,
        args.timeline,
        args.annotate,
        limit=args.limit,
    )
    pictures = [f"--{name}" for name in ("timeline", "annotate") if getattr(args, name)]
    if pictures and len(found.videos) > 1:
        problem = f"shows one video, there are {len(found.videos)}"
        raise UserError(problem, "name one video", pictures[0])
    if request.is_live and args.annotate:
        raise UserError("a stream is not kept", "record it, and name the file", "--annotate")
    if args.window or not (pictures or args.stride or request.is_live):
        return request
    return replace(request, window=_WINDOW_S)


def _prepare_files(args: argparse.Namespace, found: Found, network: Network) -> None:
    """Make sure that the files can be written, and that none of them is read; UserError."""
    from slowfast.engine.checkpoint import checkpoint_folder
    from slowfast.utils.errors import UserError
    from slowfast.utils.files import make_dirs
    from slowfast.utils.paths import prepare_outputs, refuse_overwriting
    from slowfast.utils.plotting import require_matplotlib

    if args.timeline:
        require_matplotlib(key="--timeline")
    named = {"--out": args.out, "--timeline": args.timeline, "--annotate": args.annotate}
    targets = {key: os.path.expanduser(path) for key, path in named.items() if path}
    if len({os.path.realpath(path) for path in targets.values()}) < len(targets):
        raise UserError("two outputs have the same name", "name them differently", "--out")
    checkpoints = [args.checkpoint, *checkpoint_folder(args.checkpoint).glob("*")]
    sources = [*checkpoints, *found.videos, *found.lists, *found.ignored]
    sources += [clip for clips in (network.support or {}).values() for clip in clips]
    sources += [name for name in (args.cfg, args.classes) if name]
    for key, ending in (("--timeline", ".png"), ("--annotate", ".mp4")):
        if not targets.get(key, ending).lower().endswith(ending):
            raise UserError(f"{targets[key]} is no {ending} file", f"name it {ending}", key)
    for key, path in targets.items():
        if os.path.isdir(path):
            raise UserError(f"{path} is a folder", "name a file", key)
        # A folder of frames is a video: nothing is written into it.
        refuse_overwriting(found.videos, [os.path.dirname(path) or "."], key)
        prepare_outputs([path], sources, key)
        make_dirs(os.path.dirname(path) or ".", key)
        setattr(args, key[2:], path)
