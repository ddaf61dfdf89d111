#!/usr/bin/env python3
"""Write every video of a folder as a folder of JPEG images, as Jester and Something-Something are.

The tree of folders is kept: a/b.mp4 becomes a/b/00001.jpg and so on. A stopped run goes on.
With --lists, lists of videos (Kinetics form) are written again for the folders of frames, with
their numbers of frames. Exit code: 0 all done, 1 some failed (failed.tsv), 2 wrong use.
"""

import argparse
import functools
from pathlib import Path

import _path  # noqa: F401

from slowfast.utils.cli import run_command

EXAMPLES = """examples:
  python tools/extract_frames.py videos/ssv2 frames/ssv2 --short-side 256 --template {:06d}.jpg
  python tools/extract_frames.py data/moving_shapes_8 data/frames --lists train.csv val.csv test.csv
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    parser.add_argument("--workers", type=int, help="processes (all cores)")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    return parser.parse_args()


def work(name: str, source: str, target: str, made: dict[str, str], **options: object) -> dict:
    from slowfast.video.extract import extract_frames

    return extract_frames(str(Path(source, name)), str(Path(target, made[name])), **options)


def main() -> int:
    args = parse_args()
    from slowfast.datasets.lists import find_videos, stems_of
    from slowfast.datasets.make_lists import rewrite_for_frames
    from slowfast.utils.files import make_dirs
    from slowfast.utils.parallel import file_stamp, map_files, write_failures

    names = find_videos(args.source, "SOURCE")
    made = stems_of(names)
    for name in names:
        make_dirs(Path(args.target, made[name]).parent)
    options = {k: getattr(args, k) for k in ("short_side", "template", "quality")}
    results = map_files(
        functools.partial(work, source=args.source, target=args.target, made=made, **options),
        names,
        Path(args.target) / "journal.jsonl",
        workers=args.workers,
        title="extracting",
        stamp=lambda name: f"{options} {file_stamp(str(Path(args.source, name)))}",
        is_valid=lambda name, result: (
            "frames" not in result or Path(args.target, made[name]).is_dir()
        ),
    )
    failed = write_failures(results, "frames", Path(args.target) / "failed.tsv")
    frames = {name: results[name]["frames"] for name in names if name not in failed}
    for file in args.lists:
        rewrite_for_frames(Path(args.source, file), Path(args.target, file), made, frames)
    size = sum(r.get("bytes", 0) for r in results.values()) / 2**20
    print(f"{len(frames)} of {len(results)} videos, {sum(frames.values())} images, {size:.1f} MiB")
    for name, cause in list(failed.items())[:10]:
        print(f"failed: {name}: {cause}")
    return 1 if failed else 0


if __name__ == "__main__":
    run_command(main)
