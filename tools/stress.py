#!/usr/bin/env python3
"""Stop a training again and again and compare its end, to the last bit, with one left alone.

Trains a tiny network on a tiny embedded set with everything that has a state: augmentation,
mixup, drop path, accumulation, average of the weights. Prints JSON. Exit code: 0 identical,
1 different.
"""

import argparse
import json
import signal
import tempfile
from pathlib import Path

import _path

from slowfast.utils.cli import run_command

EXAMPLES = """examples:
  python tools/stress.py --stops 20
  python tools/stress.py --stops 10 --processes 2 --signal SIGTERM
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stops", type=int, default=20, help="how often (20)")
    parser.add_argument("--processes", type=int, default=1, help="ranks (1)")
    parser.add_argument("--workers", type=int, default=1, help="loader workers of each (1)")
    parser.add_argument("--signal", default="SIGKILL", choices=("SIGKILL", "SIGTERM", "SIGINT"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides of the training")
    return parser.parse_intermixed_args()


def main() -> int:
    args = parse_args()
    from slowfast.analysis.stress import Campaign
    from slowfast.datasets.moving_shapes import ShapesSpec, generate

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        generate(data, ShapesSpec(classes=4, train=6, val=2, test=2), progress=False)
        words = [
            "DATA_LOADER.NUM_WORKERS",
            str(args.workers),
            "TRAIN.BATCH_SIZE",
            str(args.processes),
            "DATA.PATH_TO_DATA_DIR",
            str(data),
            *args.opts,
        ]
        command = [
            str(_path.ROOT / "tools/run_net.py"),
            "--cfg",
            str(_path.ROOT / "configs/quickstart/stress.yaml"),
            *words,
            "OUTPUT_DIR",
            "{out}",
        ]
        number = signal.Signals[args.signal]
        campaign = Campaign(command, Path(folder), args.processes, number, args.seed)
        result = campaign.run(args.stops)
    print(json.dumps(result, indent=1))
    return 1 if result["differences"] else 0


if __name__ == "__main__":
    run_command(main)
