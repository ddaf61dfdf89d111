#!/usr/bin/env python3
"""Parameters, GFLOPs x views and activations of the networks of one or all configurations.

A Markdown table; GFLOPs are multiply-adds, as the field counts.
"""

import argparse

import _path

from slowfast.utils.cli import run_command


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python tools/model_table.py configs/Kinetics/*.yaml DATA.NUM_FRAMES 16",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="FILE or KEY VALUE",
        help="files (default: all of configs/), then overrides",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from slowfast.analysis.table import as_markdown, model_rows

    files = [word for word in args.words if word.endswith((".yaml", ".yml"))]
    overrides = [word for word in args.words if word not in files]
    if not files:
        parts = ("data.yaml", "stress.yaml")  # no networks of their own
        found = sorted((_path.ROOT / "configs").glob("[!_]*/*.yaml"))
        files = [str(p.relative_to(_path.ROOT)) for p in found if p.name not in parts]
    print(as_markdown(model_rows(files, overrides)))


if __name__ == "__main__":
    run_command(main)
