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
TINY = [
    "NUM_GPUS",
    "0",
    "LOG_MODEL_INFO",
    "False",
    "LOG_PERIOD",
    "1",
    "TEST.ENABLE",
    "False",
    "DATA.NUM_FRAMES",
    "4",
    "DATA.SAMPLING",
    "segment",
    "DATA.TRAIN_JITTER_SCALES",
    "[32,36]",
    "DATA.TRAIN_CROP_SIZE",
    "32",
    "DATA.TEST_CROP_SIZE",
    "32",
    "MODEL.NUM_CLASSES",
    "4",
    "UNIFORMER.DEPTH",
    "[1,1,1,1]",
    "TEST.NUM_SPATIAL_CROPS",
    "3",
    "UNIFORMER.EMBED_DIM",
    "[8,16,32,32]",
    "UNIFORMER.HEAD_DIM",
    "16",
    "UNIFORMER.DROP_DEPTH_RATE",
    "0.3",
    "SOLVER.OPTIMIZING_METHOD",
    "adamw",
    "SOLVER.BASE_LR",
    "0.001",
    "SOLVER.ACCUM_STEPS",
    "3",
    "SOLVER.MAX_EPOCH",
    "16",
    "TRAIN.EVAL_PERIOD",
    "2",
    "TRAIN.CHECKPOINT_PERIOD",
    "2",
    "TRAIN.CHECKPOINT_STEPS",
    "2",
    "TRAIN.KEEP_CHECKPOINTS",
    "2",
    "EMA.ENABLE",
    "True",
    "AUG.ENABLE",
    "True",
    "AUG.NUM_SAMPLE",
    "2",
    "MIXUP.ENABLE",
    "True",
    "MODEL.LOSS_FUNC",
    "soft_cross_entropy",
    "BN.USE_PRECISE_STATS",
    "True",
    "BN.NUM_BATCHES_PRECISE",
    "3",
]


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
        words = [*TINY, "DATA_LOADER.NUM_WORKERS", str(args.workers), "TRAIN.BATCH_SIZE",
                 str(args.processes), "DATA.PATH_TO_DATA_DIR", str(data), *args.opts]  # fmt: skip
        command = [str(_path.ROOT / "tools/run_net.py"), "--cfg",
                   str(_path.ROOT / "configs/quickstart/uniformer.yaml"), *words,
                   "OUTPUT_DIR", "{out}"]  # fmt: skip
        number = signal.Signals[args.signal]
        campaign = Campaign(command, Path(folder), args.processes, number, args.seed)
        result = campaign.run(args.stops)
    print(json.dumps(result, indent=1))
    return 1 if result["differences"] else 0


if __name__ == "__main__":
    run_command(main)
