"""Write the page of a run: one HTML file with curves, tables and videos.

Several runs are compared instead: one table, common axes, paired tests on the same list.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slowfast.config.node import CfgNode

EXAMPLES = """examples:
  {prog} output/mine
  {prog} output/uniformer output/mvit --out comparison.html
"""
_COMPARISON = "comparison.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="OUTPUT_DIR of a run")
    parser.add_argument(
        "--out", help=f"file to write (RUN/report.html; of several runs: {_COMPARISON})"
    )
    parser.add_argument("--videos", type=int, help="most videos shown (REPORT.VIDEOS of the run)")
    parser.add_argument(
        "--megabytes", type=float, help="most megabytes of pictures (REPORT.MEGABYTES)"
    )
    parser.add_argument("--seconds", type=float, help="most seconds for videos (REPORT.SECONDS)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from slowfast.analysis.report.page import FILE_NAME, write_page

    single = Path(args.runs[0]) / FILE_NAME if len(args.runs) == 1 else Path(_COMPARISON)
    given = {
        key: getattr(args, key.lower())
        for key in ("VIDEOS", "MEGABYTES", "SECONDS")
        if getattr(args, key.lower()) is not None
    }
    out = Path(args.out) if args.out else single
    write_page(args.runs, out, given)
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MB")


def write_after_run(cfg: CfgNode, prog: str) -> None:
    """Write the page of a training or test that has just ended, if REPORT.ENABLE.

    The run itself is complete: a failure is printed with the command that repeats the page.
    ``prog`` is the name of the command that has run.
    """
    if not (cfg.REPORT.ENABLE and (cfg.TRAIN.ENABLE or cfg.TEST.ENABLE)):
        return
    command = "slowfast report" if prog.startswith("slowfast") else "python tools/report.py"
    command += f" {shlex.quote(cfg.OUTPUT_DIR)}"
    try:
        from slowfast.analysis.report.page import FILE_NAME, write_page

        out = Path(cfg.OUTPUT_DIR) / FILE_NAME
        write_page([cfg.OUTPUT_DIR], out, {})
        text = f"page: {out}"
    except Exception as error:  # noqa: BLE001 - the result of the run stands
        text = f"the page of the run could not be written: {error or type(error).__name__}\n"
        text += f"    -> the run is complete; repeat the page alone: {command}"
    sys.stderr.write(text + "\n")
