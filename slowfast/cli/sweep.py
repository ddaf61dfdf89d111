"""Train and test several networks with several seeds: a table and a plot of their accuracies.

Rows are configuration files (--cfg), or values of one key (--vary KEY VALUE …). Finished runs are
not repeated, stopped ones go on. Writes results.json, table.md and plot.png (extra: plot) to --out.
"""

from __future__ import annotations

import argparse

from slowfast.cli.options import add_overrides, override_words, words_of_run

EXAMPLES = """examples:
  {prog} --out output/sweep --cfg configs/quickstart/mvit.yaml configs/quickstart/stfm.yaml
  {prog} --out output/heads --cfg configs/quickstart/heads.yaml --vary TSN.CONSENSUS TSN MLP TRN -- SOLVER.MAX_EPOCH 8
"""  # noqa: E501
INTERMIXED = False  # "--" ends the values of --vary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--cfg", nargs="+", required=True, help="configuration files")
    parser.add_argument("--vary", nargs="+", default=[], metavar="WORD", help="a key, its values")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(0 1 2)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (1)")
    parser.add_argument("--threads", type=int, default=0, help="of each run (cores / jobs)")
    parser.add_argument("--out", required=True, help="folder to write to")
    add_overrides(parser, "overrides, after --")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from slowfast.analysis import sweep
    from slowfast.config.load import load_config
    from slowfast.utils.plotting import require_matplotlib

    require_matplotlib()
    key, *values = args.vary or [""]
    variants = sweep.make_variants(args.cfg, key, values)
    # Every configuration is read before the first run begins.
    words = override_words(args.imports, args.opts)
    loaded = [load_config([v.config], [*words, *v.words]) for v in variants]
    runs = sweep.Sweep(words_of_run(), args.out, words)
    rows = runs.run(variants, args.seeds, args.jobs, args.threads)
    sweep.write_report(rows, runs.folder, sweep.chance_level(loaded[0]))
    print(sweep.as_markdown(rows))
    return 0
