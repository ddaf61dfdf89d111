"""Write the videos of lists into shards: tar files in WebDataset's layout, with an index.

A folder of shards for each list, in the order of the list: the data set `shards` reads them, and
its batches are those of the list. A stopped run goes on. With --index, the index of an existing
collection is made.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from slowfast.cli.options import add_lists, add_where, read_lists, where

EXAMPLES = """examples:
  {prog} lists/train.csv lists/val.csv lists/test.csv --prefix videos --out shards
  {prog} --cfg configs/quickstart/stfm.yaml --out shards DATA.PATH_TO_DATA_DIR data/moving_shapes_8
  {prog} --index s3://bucket/collection
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_lists(parser)
    parser.add_argument("--out", default="shards", help="folder to write to (shards)")
    parser.add_argument(
        "--megabytes", type=float, default=256.0, help="size of a shard, about (256)"
    )
    parser.add_argument(
        "--index", metavar="FOLDER", help="a folder or address of shards whose index is made"
    )
    add_where(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from slowfast.datasets.classnames import DEFAULT_NAME
    from slowfast.datasets.lists import check_class_names
    from slowfast.datasets.shard_index import read_index
    from slowfast.datasets.shard_writer import plan_shards, write_shards
    from slowfast.utils.files import make_dirs, write_text_atomic
    from slowfast.utils.paths import prepare_outputs

    if args.index:
        index = read_index(args.index)
        print(f"{len(index.members)} videos in {len(index.shards)} shards of {args.index}")
        return
    place = where(args)
    lists, cfg = read_lists(args)
    prefix = (cfg.DATA.PATH_PREFIX or cfg.DATA.PATH_TO_DATA_DIR) if cfg else args.prefix
    out = Path(args.out)
    plans = {
        name: plan_shards(item_list, prefix, out / name, args.megabytes)
        for name, item_list in lists.items()
    }
    names = _class_names(args.words if not args.cfg else [], lists)
    check_class_names(names, "LIST")
    outputs = [path for plan in plans.values() for path in plan.files()] + [out / DEFAULT_NAME]
    sources = [item.path for item_list in lists.values() for item in item_list.items]
    sources += [item_list.source for item_list in lists.values()]
    prepare_outputs(outputs, sources, "--out")
    for name, plan in plans.items():
        write_shards(plan, place)
        part = f", of which share {place.share} is written" if place.share else ""
        print(f"{name}: {len(lists[name].items)} videos in {len(plan.shards)} shards{part}")
    if names and not place.share:
        write_text_atomic(make_dirs(out) / DEFAULT_NAME, "".join(f"{name}\n" for name in names))


def _class_names(files: list[str], lists: dict) -> list[str]:
    """Names in label order: those of the lists, or of classes.txt beside the first one."""
    from slowfast.datasets.classnames import DEFAULT_NAME, read_class_names

    known = [item_list.class_names for item_list in lists.values() if item_list.class_names]
    beside = [Path(file).with_name(DEFAULT_NAME) for file in files]
    found = next((path for path in beside if path.is_file()), None)
    return known[0] if known else read_class_names(found) if found else []
