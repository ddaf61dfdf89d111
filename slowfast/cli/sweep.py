"""Train and test several networks with several seeds: tables and plots of their accuracies.

Rows are configuration files (--cfg), values of one key (--vary KEY VALUE …), or those of a file
(--variants), a YAML list of mappings: name, cfg, words (KEY VALUE …), group. Finished runs are not
repeated, stopped ones go on. Writes runs.csv, means.csv, confusion.csv, results.json, table.md and,
with the extra plot, plot.png, gflops.png and confusion.png to --out. Several machines: each makes a
part (--rows, --only), and once their folders are copied together, the call without these options
gathers (--gather: the runs that there are).
"""

from __future__ import annotations

import argparse

from slowfast.cli.options import add_overrides, override_words, words_of_run

EXAMPLES = """examples:
  {prog} --out output/sweep --cfg configs/quickstart/mvit.yaml configs/quickstart/stfm.yaml
  {prog} --out output/heads --cfg configs/quickstart/heads.yaml --vary TSN.CONSENSUS TSN MLP TRN -- SOLVER.MAX_EPOCH 8
  {prog} --out output/stfm --variants exp/evidence_stfm/variants.yaml --only 1/2 -- NUM_GPUS 0
  {prog} --fill docs/evidence/stfm.md
"""  # noqa: E501
INTERMIXED = False  # "--" ends the values of --vary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--cfg", nargs="+", default=[], help="configuration files")
    parser.add_argument("--vary", nargs="+", default=[], metavar="WORD", help="a key, its values")
    parser.add_argument("--variants", metavar="FILE", help="a YAML file of rows")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows, no report")
    parser.add_argument("--only", metavar="I/N", help="every N-th run from the I-th, no report")
    parser.add_argument("--gather", action="store_true", help="report finished runs, start none")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(0 1 2)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (1)")
    parser.add_argument("--threads", type=int, default=0, help="of each run (cores / jobs)")
    parser.add_argument("--out", help="folder to write to")
    parser.add_argument(
        "--fill",
        nargs="+",
        metavar="PAGE",
        help="instead of runs: write tables into pages, under lines <!-- table of RUNS.csv -->",
    )
    add_overrides(parser, "overrides, after --")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from slowfast.analysis.sweep import confusion, report, runs, variants
    from slowfast.analysis.table import network_size
    from slowfast.utils.plotting import require_matplotlib

    if args.fill:
        report.fill_pages(args.fill)
        return 0
    _check(args)
    reports = not (args.rows or args.only)
    if reports:
        require_matplotlib()
    if args.variants:
        rows = variants.read_variants(args.variants)
    else:
        key, *values = args.vary or [""]
        rows = variants.make_variants(args.cfg, key, values)
    chosen = variants.select_variants(rows, args.rows) if args.rows else rows
    part = runs.parse_part(args.only) if args.only else (1, 1)
    sweep = runs.Sweep(words_of_run(), args.out, override_words(args.imports, args.opts))
    # Every configuration is read, and every network built, before the first run begins.
    configs = [sweep.config(variant) for variant in chosen]
    sizes = [network_size(cfg) for cfg in configs]
    if args.gather:
        results = sweep.gather(chosen, args.seeds)
    else:
        results = sweep.run(chosen, args.seeds, args.jobs, args.threads, part)
    by_name = {variant.name: size for variant, size in zip(chosen, sizes)}
    for row in results:
        size = by_name[row.name]
        row.parameters, row.gflops = size.parameters / 1e6, size.gflops
    if not results:  # of a part
        return 0
    if reports:
        report.write_report(results, sweep.folder, runs.chance_level(configs[0]))
        if found := sweep.confusions(chosen, results):
            confusion.write_confusions(found, sweep.folder)
    print(report.as_markdown(results))
    return 0


def _check(args: argparse.Namespace) -> None:
    from slowfast.utils.errors import UserError

    if bool(args.cfg) == bool(args.variants):
        raise UserError("the rows are missing", "give --cfg FILE … or --variants FILE", "--cfg")
    if args.variants and args.vary:
        remedy = "write the words into the rows of the file"
        raise UserError("--variants takes no --vary", remedy, "--vary")
    if not args.out:
        raise UserError("the folder to write to is missing", "give --out FOLDER", "--out")
