"""One table of several tests: mean ± standard deviation over splits.

With --base-novel: base and novel classes and their harmonic mean. DIR is the folder of a test
(OUTPUT_DIR/tests/…), or an OUTPUT_DIR, of which the last test counts.
"""

from __future__ import annotations

import argparse

EXAMPLES = "example: {prog} UCF101=output/a_1,output/a_2 HMDB51=output/b_1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("rows", nargs="+", metavar="NAME=DIR,DIR...", help="a set and its tests")
    parser.add_argument("--base-novel", action="store_true", help="two tests per set: base, novel")
    parser.add_argument(
        "--word",
        type=int,
        default=0,
        metavar="N",
        help="compare the N-th words of class names instead of classes",
    )
    parser.add_argument("--out", help="file to write the table to, too")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from slowfast.analysis.protocol import base_novel_table, read_rows, split_table
    from slowfast.utils.files import write_text_atomic
    from slowfast.utils.paths import prepare_outputs

    rows = read_rows(args.rows, args.word)
    table = base_novel_table(rows) if args.base_novel else split_table(rows)
    if args.out:
        prepare_outputs([args.out], [file for row in rows for file in row.files], "--out")
        write_text_atomic(args.out, table + "\n")
    print(table)
