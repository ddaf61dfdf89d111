"""Do harm to a tiny training again and again, and count what is handled.

--kind kills (the default) stops it and compares its end, to the last bit, with one left alone; it
prints JSON. The other kinds print a table: tried, handled, lost. The network is tiny and has
everything with a state: augmentation, mixup, drop path, accumulation, average of the weights.
Exit code: 0 identical, or nothing lost; 1 otherwise.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from slowfast.cli.options import add_overrides, override_words, words_of_run
from slowfast.utils.json_text import json_text

if TYPE_CHECKING:
    from slowfast.analysis.stress.runs import Scene
    from slowfast.analysis.stress.table import Tally

EXAMPLES = """examples:
  {prog} --stops 20
  {prog} --stops 10 --processes 2 --signal SIGTERM
  {prog} --kind workers --processes 2 --tries 20
"""
_KILLS = "kills"
KINDS = {
    _KILLS: "the training is stopped by --signal, --stops times",
    "workers": "a loader worker is killed",
    "parents": "a rank is killed; its workers must end",
    "tools": "a tool with a pool is killed; the pool must end",
    "folder": "three starts in one OUTPUT_DIR",
    "disk": "OUTPUT_DIR is full",
    "file-size": "files may not grow",
    "descriptors": "few open files",
    "shm": "hardly any /dev/shm",
    "console": "standard output is lost",
    "flips": "files of weights are damaged",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    kinds = "; ".join(f"{name}: {text}" for name, text in KINDS.items())
    parser.add_argument("--kind", default=_KILLS, choices=KINDS, help=kinds)
    parser.add_argument("--tries", type=int, default=10, help="of kinds other than kills (10)")
    parser.add_argument("--stops", type=int, default=20, help="how often kills stops it (20)")
    parser.add_argument("--processes", type=int, default=1, help="ranks (1)")
    parser.add_argument("--workers", type=int, default=1, help="loader workers of each (1)")
    parser.add_argument("--signal", default="SIGKILL", choices=("SIGKILL", "SIGTERM", "SIGINT"))
    parser.add_argument("--seed", type=int, default=0)
    add_overrides(parser, "overrides of the training")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from slowfast.analysis.stress.resume import Campaign
    from slowfast.analysis.stress.runs import Scene
    from slowfast.analysis.stress.table import as_markdown
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
        scene = Scene(command, Path(folder), args.processes, seed=args.seed)
        if args.kind != _KILLS:
            tally = campaign(args.kind, data)(scene, args.tries)
            print(as_markdown([tally]))
            for text in tally.lost:
                print(f"lost: {text}")
            return 1 if tally.lost else 0
        result = Campaign(scene, signal.Signals[args.signal]).run(args.stops)
    print(json_text(result, indent=1))
    return 1 if result["differences"] else 0


def campaign(kind: str, data: Path) -> Callable[[Scene, int], Tally]:
    """The campaign of a kind of harm; ``data`` is the set on which tools work."""
    from slowfast.analysis import flips
    from slowfast.analysis.stress import deaths, folder, scarcity

    slowfast, videos = ["-m", "slowfast"], str(data / "videos")
    commands = [
        [*slowfast, "make-moving-shapes", "{out}/set"],
        [*slowfast, "make-compositions", "{out}/set"],
        [*slowfast, "resize-videos", videos, "{out}/small", "--short-side", "24"],
        [*slowfast, "extract-frames", videos, "{out}/frames"],
        [*slowfast, "check-data", str(data / "train.csv"), "--whole", "--out", "{out}/check"]
        + ["--prefix", str(data)],
    ]
    commands = [[*command, "--workers", "2"] for command in commands]
    return {
        "workers": deaths.workers,
        "parents": deaths.parents,
        "tools": lambda scene, tries: deaths.tools(scene, tries, commands),
        "folder": folder.two_runs,
        "disk": scarcity.disk,
        "file-size": scarcity.file_size,
        "descriptors": scarcity.descriptors,
        "shm": scarcity.shared_memory,
        "console": scarcity.console,
        "flips": flips.campaign,
    }[kind]
