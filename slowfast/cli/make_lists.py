"""Make lists, class names and a ready YAML file from a folder of videos or official annotations.

  folder    FOLDER/<class>/<video>, divided at random, or FOLDER/{train,val,test}/<class>/<video>
  kinetics  official csv files (--annotations, several) and a tree of videos (--videos)
  ssv2, jester, ucf101, hmdb51   the folder of the official files and that of the videos or frames

Exit code: 0 all videos are there, 1 some are missing (see missing.txt), 2 wrong use.
"""

from __future__ import annotations

import argparse
import os

EXAMPLES = """examples:
  {prog} folder data/moving_shapes_8/videos --out lists/mine
  {prog} kinetics --annotations k400/train.csv k400/val.csv --videos k400/videos --out lists/k400
  {prog} ucf101 --annotations ucfTrainTestlist --videos UCF-101 --out lists/ucf101
then:
  {run} --cfg lists/mine/config.yaml OUTPUT_DIR output/mine
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "kind", choices=("folder", "kinetics", "ssv2", "jester", "ucf101", "hmdb51")
    )
    parser.add_argument("folder", nargs="?", help="folder: where the class folders are")
    parser.add_argument("--annotations", nargs="+", default=[], help="official csv files or folder")
    parser.add_argument("--videos", help="folder of the videos or frame folders")
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--val", type=float, default=0.1, help="folder: share of videos (0.1)")
    parser.add_argument("--test", type=float, default=0.1, help="folder: share of videos (0.1)")
    parser.add_argument("--seed", type=int, default=0, help="folder: seed of the division (0)")
    parser.add_argument(
        "--split", type=int, default=1, choices=(1, 2, 3), help="ucf101, hmdb51: official split (1)"
    )
    parser.add_argument("--template", default="{:05d}.jpg", help="images of frame folders")
    parser.add_argument(
        "--follow-links", action="store_true", help="follow links that lead out of the folder"
    )
    parser.add_argument(
        "--base",
        default="configs/quickstart/stfm.yaml",
        help="configuration to build on, a file or a published one (quickstart/stfm)",
    )


def _files_of(path: str) -> list[str]:
    """The file itself, or the files in a folder."""
    if not os.path.isdir(path):
        return [path]
    return [entry.path for entry in os.scandir(path) if entry.is_file()]


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from slowfast.config.yaml_file import find_config
    from slowfast.datasets import make_lists
    from slowfast.utils.errors import UserError

    if args.kind == "folder":
        if not args.folder:
            raise UserError("no folder is given", "see --help", "FOLDER")
        made = make_lists.from_folder(
            args.folder, args.val, args.test, args.seed, args.follow_links
        )
    elif not args.annotations or not args.videos:
        raise UserError(f"{args.kind} needs --annotations and --videos", "see --help")
    elif args.kind == "kinetics":
        made = make_lists.from_kinetics(args.annotations, args.videos, args.follow_links)
    else:
        made = make_lists.from_official(
            args.kind, args.annotations[0], args.videos, args.split, args.template
        )
    base = find_config(args.base)
    if not base.is_file():
        raise UserError(f"there is no configuration file {args.base}", "see --help", "--base")
    read = [file for path in args.annotations for file in _files_of(path)]
    config = make_lists.write_lists(made, args.out, base, read)
    counts = ", ".join(f"{len(items)} {part}" for part, items in made.splits.items())
    print(f"{len(made.class_names)} classes; videos: {counts}")
    if made.missing:
        print(f"{len(made.missing)} videos are missing, e.g. {made.missing[0]}: missing.txt")
    print(f"{args.run_command} --cfg {config}")
    return 1 if made.missing else 0
