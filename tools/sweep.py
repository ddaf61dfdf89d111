#!/usr/bin/env python3
"""Train and test several networks with several seeds: a table and a plot of their accuracies.

Rows are configuration files (--cfg), or values of one key (--vary KEY VALUE …). Finished runs are
not repeated, stopped ones go on. Writes results.json, table.md and plot.png (extra: plot) to --out.
"""

import argparse

import _path

from slowfast.utils.cli import run_command

EXAMPLES = """examples:
  python tools/sweep.py --out output/sweep --cfg configs/quickstart/mvit.yaml configs/quickstart/stfm.yaml
  python tools/sweep.py --out output/heads --cfg configs/quickstart/tsn.yaml --vary TSN.CONSENSUS TSN MLP TRN -- SOLVER.MAX_EPOCH 8
"""  # noqa: E501


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cfg", nargs="+", required=True, help="configuration files")
    parser.add_argument("--vary", nargs="+", default=[], metavar="WORD", help="a key, its values")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(0 1 2)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (1)")
    parser.add_argument("--threads", type=int, default=0, help="of each run (cores / jobs)")
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides, after --")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    from slowfast.analysis import sweep
    from slowfast.config.load import load_config

    sweep.check_plotting()
    key, *values = args.vary or [""]
    variants = sweep.make_variants(args.cfg, key, values)
    # Every configuration is read before the first run begins.
    loaded = [load_config([v.config], [*args.opts, *v.words]) for v in variants]
    runs = sweep.Sweep(_path.ROOT / "tools/run_net.py", args.out, args.opts)
    rows = runs.run(variants, args.seeds, args.jobs, args.threads)
    sweep.write_report(rows, runs.folder, sweep.chance_level(loaded[0]))
    print(sweep.as_markdown(rows))
    return 0


if __name__ == "__main__":
    run_command(main)
