"""Write every video of a folder as a folder of JPEG images, as Jester and Something-Something are.

The tree of folders is kept: a/b.mp4 becomes a/b/00001.jpg and so on. A stopped run goes on.
With --lists, lists of videos (Kinetics form) are written again for the folders of frames, with
their numbers of frames. Exit code: 0 all done, 1 some failed (failed.tsv), 2 wrong use.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from slowfast.cli.options import add_where, where

JOURNAL, FAILED = "journal.jsonl", "failed.tsv"
EXAMPLES = """examples:
  {prog} videos/ssv2 frames/ssv2 --short-side 256 --template {:06d}.jpg
  {prog} data/moving_shapes_8 data/frames --lists train.csv val.csv test.csv
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("source", help="folder of videos, with any folders below")
    parser.add_argument("target", help="folder to write to")
    parser.add_argument("--short-side", type=int, default=0, help="pixels (0: as it is)")
    parser.add_argument("--template", default="{:05d}.jpg", help="names of images ({:05d}.jpg)")
    parser.add_argument("--quality", type=int, default=95, help="JPEG quality, 1 to 100 (95)")
    parser.add_argument(
        "--lists",
        nargs="+",
        default=[],
        metavar="FILE",
        help="lists in SOURCE whose paths begin there",
    )
    parser.add_argument(
        "--follow-links", action="store_true", help="follow links that lead out of SOURCE"
    )
    add_where(parser)


def _work(name: str, source: str, target: str, made: dict[str, str], **options: object) -> dict:
    from slowfast.video.extract import extract_frames

    return extract_frames(str(Path(source, name)), str(Path(target, made[name])), **options)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from slowfast.datasets.lists import find_videos, stems_of
    from slowfast.datasets.make_lists import rewrite_for_frames
    from slowfast.utils.files import make_dirs, remove_leftovers
    from slowfast.utils.map import file_stamp, map_items, write_failures
    from slowfast.utils.paths import refuse_meeting
    from slowfast.video.extract import check_template

    place = where(args)
    check_template(args.template)
    names = find_videos(args.source, "SOURCE", args.follow_links)
    made = stems_of(names)
    # A video becomes a folder: what lies in it tells whether it meets the videos.
    outputs = [*(f"{folder}/image" for folder in made.values()), JOURNAL, FAILED, *args.lists]
    refuse_meeting(args.source, [*names, *args.lists], args.target, outputs)
    made = {name: made[name] for name in place.part(names)}
    folder = place.folder(args.target)
    lists = [] if place.share else args.lists  # of all videos: when the shares are joined
    remove_leftovers(
        [folder / JOURNAL, folder / FAILED, *(Path(args.target, name) for name in lists)]
    )
    for stem in made.values():
        make_dirs(Path(args.target, stem).parent)
    options = {k: getattr(args, k) for k in ("short_side", "template", "quality")}
    results = map_items(
        functools.partial(_work, source=args.source, target=args.target, made=made, **options),
        names,
        Path(args.target) / JOURNAL,
        where=place,
        options=options,
        title="extracting",
        stamp=lambda name: f"{options} {file_stamp(Path(args.source, name))}",
        is_valid=lambda name, result: (
            not result.get("again")
            and ("frames" not in result or Path(args.target, made[name]).is_dir())
        ),
    )
    failed = write_failures(results, "frames", folder / FAILED)
    frames = {name: results[name]["frames"] for name in made if name not in failed}
    for file in lists:
        rewrite_for_frames(Path(args.source, file), Path(args.target, file), made, frames)
    size = sum(r.get("bytes", 0) for r in results.values()) / 2**20
    print(f"{len(frames)} of {len(results)} videos, {sum(frames.values())} images, {size:.1f} MiB")
    for name, cause in list(failed.items())[:10]:
        print(f"failed: {name}: {cause}")
    return 1 if failed else 0
