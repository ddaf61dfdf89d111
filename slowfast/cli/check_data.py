"""Look into every video of lists: what is broken, how long, how many of each class, what is twice.

Writes summary.json, a list of the good videos and one of the bad for each list, and a journal
by which a stopped check goes on. Exit code: 0 all good, 1 something is broken or shared between
lists, 2 wrong use.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from slowfast.cli.options import add_lists, add_where, read_lists, where

if TYPE_CHECKING:
    from slowfast.datasets.probe import Report

EXAMPLES = """examples:
  {prog} data/moving_shapes_8/train.csv data/moving_shapes_8/val.csv --prefix data/moving_shapes_8
  {prog} --cfg configs/quickstart/stfm.yaml DATA.PATH_TO_DATA_DIR data/moving_shapes_8
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_lists(parser)
    parser.add_argument("--template", default="{:05d}.jpg", help="images of frame folders")
    parser.add_argument("--whole", action="store_true", help="decode every frame (slow)")
    parser.add_argument("--out", default="data_check", help="folder to write to (data_check)")
    add_where(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from slowfast.datasets.probe import check_lists, report_files, write_report
    from slowfast.utils.paths import refuse_overwriting

    place = where(args)
    lists, cfg = read_lists(args)
    template = cfg.DATA.IMAGE_TEMPLATE if cfg else args.template
    sources = [args.cfg] if args.cfg else []
    sources += [item_list.source for item_list in lists.values()]
    folder = place.folder(args.out)
    refuse_overwriting(sources, report_files(lists, folder), "--out")
    journal = Path(args.out) / "journal.jsonl"
    report = check_lists(lists, journal, template=template, whole=args.whole, where=place)
    write_report(report, folder)
    _show(report, str(folder))
    return 0 if report.is_clean else 1


def _show(report: Report, out: str) -> None:
    from slowfast.datasets.items import locate

    for name, figures in report.summary()["lists"].items():
        print(f"{name}: {figures['videos']} videos, {figures['bad']} bad ({figures['source']})")
        for what in ("classes", "videos_per_class", "frames", "fps", "seconds", "short_side"):
            value = figures[what]
            text = (
                f"{value['min']:g} .. {value['median']:g} .. {value['max']:g}"
                if isinstance(value, dict) and value
                else value or "none"
            )
            print(f"  {what.replace('_', ' '):<17} {text}")
        for item, cause in report.bad(name)[:10]:
            print(f"  bad: {locate(figures['source'], item)}: {cause}")
    for kind in ("shared", "twice"):
        for names, pairs in getattr(report, kind).items():
            print(f"{len(pairs)} videos {kind}: {names}, e.g. {pairs[0]}")
    print(f"written to {out}")
