"""Say what a training on many GPUs, over many videos, needs; simulate it; check the simulation.

Cores that decode, bandwidth and requests of the storage, memory of lists, checkpoints, and what
failures cost, from constants of one part (docs/scale.md). --simulate adds late readers and random
failures. --check runs small trainings with late clips on 2 and 4 processes of this machine, and one
that is killed, and prints measured and simulated seconds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowfast.cli.options import words_of_run
from slowfast.utils.json_text import json_text

if TYPE_CHECKING:
    from slowfast.analysis.stress.runs import Scene

EXAMPLES = """examples:
  {prog}
  {prog} --gpus 16 32 --videos 650000 --set gpu_clips_per_second 123
  {prog} --simulate
  {prog} --check
"""
_STEPS = 60  # of a check
_CLIPS = 2  # of each process and step


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--constants", metavar="FILE", help="YAML file in place of the package's")
    parser.add_argument("--gpus", type=int, nargs="+", help="(8 64 512)")
    parser.add_argument("--videos", type=int, nargs="+", help="(1, 10 and 100 million)")
    parser.add_argument("--simulate", action="store_true", help="late readers and failures, too")
    parser.add_argument("--check", action="store_true", help="real trainings beside the simulation")
    parser.add_argument(
        "--set", nargs=2, action="append", metavar=("NAME", "VALUE"), help="a constant (repeatable)"
    )


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from slowfast.analysis.scale import needs
    from slowfast.analysis.scale.tables import failures_table, readers_table
    from slowfast.utils.errors import UserError

    if args.check:
        print(json_text(_check(), indent=1))
        return
    file = args.constants or Path(needs.__file__).with_name("constants.yaml")
    words = [word for pair in args.set or () for word in pair]
    constants = needs.Constants.read(file, words)
    gpus, videos = args.gpus or needs.GPUS, args.videos or needs.VIDEOS
    for key, numbers in (("--gpus", gpus), ("--videos", videos)):
        if min(numbers) < 1:
            raise UserError(f"is {min(numbers)}", "1 or more", key)
    tables = [
        needs.gpus_table(constants, gpus),
        needs.videos_table(constants, videos, gpus),
        needs.checkpoints_table(constants, gpus),
    ]
    if args.simulate:
        tables += [readers_table(constants, gpus), failures_table(constants, gpus)]
    print("\n\n".join(tables))


def _check() -> dict[str, Any]:
    from slowfast.analysis.scale.check import check_failures, check_late_readers

    result: dict[str, Any] = {"late_readers": []}
    with tempfile.TemporaryDirectory() as folder:
        for processes in (2, 4):
            scene = _scene(Path(folder) / str(processes), processes)
            result["late_readers"].append(check_late_readers(scene, 1, _CLIPS, 0.1, 0.1))
        scene = _scene(Path(folder) / "kills", 2)
        result["failures"] = check_failures(scene, [3.0, 4.0, 3.0], every=5, mean=0.1)
    return result


def _scene(folder: Path, processes: int) -> Scene:
    """Trainings of one epoch, in which nothing is done but steps."""
    from slowfast.analysis.stress.runs import Scene
    from slowfast.config.yaml_file import find_config
    from slowfast.datasets.moving_shapes import ShapesSpec, generate

    data = folder / "data"
    generate(data, ShapesSpec(classes=4, train=6, val=2, test=2), progress=False)
    lines = (data / "train.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    clips = _STEPS * _CLIPS * processes
    repeated = "".join(lines[number % len(lines)] for number in range(clips))
    (data / "many.csv").write_text(repeated, encoding="utf-8")
    words = {
        "DATA.PATH_TO_DATA_DIR": data,
        "DATA.PATH_PREFIX": data,
        "DATA.TRAIN_LIST": "many.csv",
        "DATA_LOADER.NUM_WORKERS": 1,
        "TRAIN.BATCH_SIZE": _CLIPS * processes,
        "TRAIN.EVAL_PERIOD": 1000,
        "TRAIN.CHECKPOINT_STEPS": 0,
        "TRAIN.DATASET": "kinetics",
        "TEST.DATASET": "kinetics",
        "TEST.ENABLE": False,
        "SOLVER.ACCUM_STEPS": 1,
        "SOLVER.MAX_EPOCH": 1,
        "SOLVER.WARMUP_EPOCHS": 0.0,
        "AUG.NUM_SAMPLE": 1,
        "BN.USE_PRECISE_STATS": False,
        "TENSORBOARD.ENABLE": False,
        "OUTPUT_DIR": "{out}",
    }
    config = find_config("configs/quickstart/stress.yaml").absolute()
    command = [*words_of_run(), "--cfg", str(config)]
    command += [str(word) for pair in words.items() for word in pair]
    return Scene(command, folder, processes)
