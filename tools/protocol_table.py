#!/usr/bin/env python3
"""One table of several tests: mean ± standard deviation over splits, or, with --base-novel, base
and novel classes and their harmonic mean. Reads stats.jsonl of the tests' output folders."""

import argparse

import _path  # noqa: F401

from slowfast.utils.cli import run_command

EXAMPLE = "example: python tools/protocol_table.py UCF101=output/a_1,output/a_2 HMDB51=output/b_1"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE)
    parser.add_argument("rows", nargs="+", metavar="NAME=DIR,DIR...", help="a set and its tests")
    parser.add_argument("--base-novel", action="store_true", help="two tests a set: base, novel")
    parser.add_argument("--out", help="file to write the table to, too")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from slowfast.analysis.protocol import base_novel_table, read_rows, split_table
    from slowfast.utils.files import write_text_atomic

    rows = read_rows(args.rows)
    table = base_novel_table(rows) if args.base_novel else split_table(rows)
    if args.out:
        write_text_atomic(args.out, table + "\n")
    print(table)


if __name__ == "__main__":
    run_command(main)
