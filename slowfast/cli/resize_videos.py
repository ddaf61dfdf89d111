"""Write all videos of a folder again with a smaller short side: less to read and to decode.

Frames and times stay the same; sound is left out; the tree of folders is kept, every file becomes
an .mp4. A stopped run goes on. Exit code: 0 all done, 1 some failed (failed.tsv), 2 wrong use.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from slowfast.cli.options import add_where, where

JOURNAL, FAILED = "journal.jsonl", "failed.tsv"
EXAMPLES = "example: {prog} videos/k400 videos/k400_256 --short-side 256"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("source", help="folder of videos, with any folders below")
    parser.add_argument("target", help="folder to write to")
    parser.add_argument("--short-side", type=int, default=256, help="pixels (256)")
    parser.add_argument("--crf", type=int, default=18, help="H.264 quality, lower is better (18)")
    parser.add_argument(
        "--gop",
        type=int,
        default=16,
        help="frames from one keyframe to the next: fewer are faster to seek and larger (16)",
    )
    parser.add_argument(
        "--follow-links", action="store_true", help="follow links that lead out of SOURCE"
    )
    add_where(parser)


def _work(name: str, source: str, target: str, made: dict[str, str], **options: int) -> dict:
    from slowfast.video.resize import resize_video

    return resize_video(str(Path(source, name)), str(Path(target, made[name])), **options)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from slowfast.datasets.lists import find_videos, stems_of
    from slowfast.utils.files import remove_leftovers
    from slowfast.utils.map import file_stamp, map_items, write_failures
    from slowfast.utils.paths import refuse_meeting

    place = where(args)
    names = find_videos(args.source, "SOURCE", args.follow_links)
    made = {name: f"{stem}.mp4" for name, stem in stems_of(names).items()}
    refuse_meeting(args.source, names, args.target, [*made.values(), JOURNAL, FAILED])
    made = {name: made[name] for name in place.part(names)}
    folder = place.folder(args.target)
    written = [*(Path(args.target, file) for file in made.values()), folder / JOURNAL]
    written.append(folder / FAILED)
    remove_leftovers(written)
    options = {"short_side": args.short_side, "crf": args.crf, "gop": args.gop}
    results = map_items(
        functools.partial(_work, source=args.source, target=args.target, made=made, **options),
        names,
        Path(args.target) / JOURNAL,
        where=place,
        options=options,
        title="resizing",
        stamp=lambda name: f"{options} {file_stamp(Path(args.source, name))}",
        is_valid=lambda name, result: (
            not result.get("again")
            and ("after" not in result or Path(args.target, made[name]).is_file())
        ),
    )
    remove_leftovers(written, of_all_machines=True)  # of those that have gone
    failed = write_failures(results, "after", folder / FAILED)
    before, after = (
        sum(r.get(k, 0) for r in results.values()) / 2**20 for k in ("before", "after")
    )
    print(f"{len(results) - len(failed)} of {len(results)} videos, {before:.1f} -> {after:.1f} MiB")
    for name, cause in list(failed.items())[:10]:
        print(f"failed: {name}: {cause}")
    return 1 if failed else 0
