"""Stop a training again and again and compare its end, to the last bit, with one left alone.

Trains a tiny network on a tiny embedded set with everything that has a state: augmentation,
mixup, drop path, accumulation, average of the weights. Prints JSON. Exit code: 0 identical,
1 different.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
from pathlib import Path

from slowfast.cli.options import add_overrides, override_words, words_of_run
from slowfast.utils.json_text import json_text

EXAMPLES = """examples:
  {prog} --stops 20
  {prog} --stops 10 --processes 2 --signal SIGTERM
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--stops", type=int, default=20, help="how often (20)")
    parser.add_argument("--processes", type=int, default=1, help="ranks (1)")
    parser.add_argument("--workers", type=int, default=1, help="loader workers of each (1)")
    parser.add_argument("--signal", default="SIGKILL", choices=("SIGKILL", "SIGTERM", "SIGINT"))
    parser.add_argument("--seed", type=int, default=0)
    add_overrides(parser, "overrides of the training")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from slowfast.analysis.stress import Campaign
    from slowfast.config.yaml_file import find_config
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
            *words_of_run(),
            "--cfg",
            str(find_config("configs/quickstart/stress.yaml").absolute()),
            *override_words(args.imports, words),
            "OUTPUT_DIR",
            "{out}",
        ]
        number = signal.Signals[args.signal]
        campaign = Campaign(command, Path(folder), args.processes, number, args.seed)
        result = campaign.run(args.stops)
    print(json_text(result, indent=1))
    return 1 if result["differences"] else 0
