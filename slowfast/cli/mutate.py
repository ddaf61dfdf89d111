"""Put small faults into a copy of the package and see whether the tests notice them.

Draws faults by a seed (another comparison, a negated condition, a removed statement, …), tries
each against the tests of its room that execute it, nearest first, and prints a table of those that
were noticed. Works on a checkout with its tests; the checkout itself is not changed. Results are
kept in --out, where the same command continues. Exit code: 0 if at least --target of them are
noticed, else 1.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

EXAMPLES = """examples:
  {prog} --count 20 --out mutations
  {prog} --rooms metrics video --count 40 --seed 3 --out mutations
  {prog} --count 20 --out mutations --again
"""
ROOT = Path(__file__).resolve().parents[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--out", type=Path, required=True, help="folder of results and copies")
    parser.add_argument("--count", type=int, default=200, help="number of faults (200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rooms", nargs="+", default=[], metavar="ROOM", help="only these rooms")
    parser.add_argument("--exclude", nargs="+", default=[], metavar="FILE", help="leave out files")
    parser.add_argument("--seconds", type=float, default=90, help="of tests for one fault (90)")
    parser.add_argument("--workers", type=int, default=1, help="test runs at the same time (1)")
    parser.add_argument("--target", type=float, default=0.9, help="share to be noticed (0.9)")
    parser.add_argument("--again", action="store_true", help="also try survivors again")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (this one)")
    parser.add_argument("--list", action="store_true", help="only print the faults")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from slowfast.analysis.mutations import campaign
    from slowfast.utils.errors import UserError

    root = args.root.absolute()
    if not (root / "tests").is_dir():
        raise UserError(f"there are no tests in {root}", "run it in a checkout", "mutate")
    if unknown := [room for room in args.rooms if room not in campaign.ROOMS]:
        known = ", ".join(campaign.ROOMS)
        raise UserError(f"no room {unknown[0]!r}", f"the rooms are {known}", "--rooms")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    rooms = args.rooms or campaign.ROOMS
    drawn = campaign.sample(root, args.count, args.seed, rooms, args.exclude)
    if args.list:
        print("\n".join(m.name for mutations in drawn.values() for m in mutations))
        return 0
    trials = campaign.Campaign(root, args.out.absolute(), args.seconds, args.workers)
    rows = trials.run(drawn, args.again)
    known = campaign.read_equivalent(root / "tests" / "equivalent_mutations.tsv")
    text, share = campaign.table(rows, known)
    survived = [r for r in rows if r["outcome"] in (campaign.SURVIVED, campaign.NOT_EXECUTED)]
    for row in survived:
        reason = known.get(row["name"], row["outcome"])
        print(f"line {row['line']}: {row['name']}: {reason}")
    print(f"\nseed {args.seed}, commit {campaign.commit_of(root)}\n\n{text}")
    return 0 if share >= args.target else 1
