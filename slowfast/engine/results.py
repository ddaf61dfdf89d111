"""The folder of a test, ``OUTPUT_DIR/tests/<name>``: its name, and when it is written anew.

The same test of the same list, weights and configuration has one folder; another test gets another
one. A folder is complete, or it is not there.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from slowfast.config.node import CfgNode
from slowfast.engine.initial import TestedWeights
from slowfast.engine.tasks.base import TaskReport, TestRun
from slowfast.metrics.evaluators import EvalResult, Evaluator
from slowfast.utils.files import make_dirs, replace_folder, settle_folders, short_hash
from slowfast.utils.json_text import json_text
from slowfast.version import __version__

FOLDER = "tests"
FACTS = "test.json"
CONFIG = "config.yaml"

# Keys that say how weights came to be, or how fast a test is, but not what it gives: sections with
# those inside of them, keys, and beginnings of the last part of a key.
_SECTIONS = {
    "AUG",
    "DATA_LOADER",
    "DEMO",
    "DIST",
    "MIXUP",
    "REPORT",
    "SOLVER",
    "TENSORBOARD",
    "TRAIN",
}
_KEYS = {
    "CALLBACKS",
    "DATA.MAX_ERROR_SHARE",
    "DIST_BACKEND",
    "FEWSHOT.CACHE",
    "FEWSHOT.EPISODES_FILE",
    "IMPORTS",
    "LOGGERS",
    "LOG_MODEL_INFO",
    "LOG_PERIOD",
    "NUM_GPUS",
    "NUM_SHARDS",
    "OUTPUT_DIR",
    "SHARD_ID",
    "TEST.BATCH_SIZE",
    "TEST.CHECKPOINT_FILE_PATH",
    "TEST.ENABLE",
    "TEST.NUM_ENSEMBLE_VIEWS",
    "TEST.NUM_TEMPORAL_CLIPS",
    "TEST.SAVE_RESULTS_PATH",
    "TEST.USE_CHECKPOINT",
}
_LEAVES = ("TRAIN_", "VAL_")
_OF_TRAIN = {
    "TRAIN.AMP_DTYPE",
    "TRAIN.CHECKPOINT_CLEAR_NAME_PATTERN",
    "TRAIN.CHECKPOINT_INFLATE",
    "TRAIN.CLIP_ORI_PATH",
    "TRAIN.MIXED_PRECISION",
}
_SPLITS = ("train", "training", "val", "validation", "test")
_LONGEST = 100  # characters of the part of a name that comes from the list


@dataclass(frozen=True)
class FinishedTest:
    """A test that has ended on all processes; ``seconds`` from its first batch to its result."""

    run: TestRun
    evaluator: Evaluator
    result: EvalResult
    weights: TestedWeights
    unreadable: int
    started: datetime
    seconds: float


def save_test(cfg: CfgNode, report: TaskReport, test: FinishedTest) -> Path:
    """Write the folder of a test; gives its path. RunFailure leaves what was there before."""
    parent = make_dirs(Path(cfg.OUTPUT_DIR) / FOLDER, "OUTPUT_DIR")
    settle_folders(parent)
    dataset = test.run.loader.dataset
    item_list = dataset.item_list
    base, split = base_name(item_list.source, test.run.tag)
    facts: dict[str, Any] = {
        "task": cfg.TASK or "recognition",
        "split": split,
        "list": item_list.source,
        "fingerprint": item_list.fingerprint,
        "views": test.run.tag,
        "checkpoint": test.weights.facts(),
        "model": cfg.MODEL.MODEL_NAME,
        "figures": report.figures(test.result, test.unreadable, len(dataset)),
        "videos": len(item_list.items) - test.unreadable,
        "unreadable": test.unreadable,
        "left_out": item_list.left_out,
        "started": test.started.isoformat(timespec="milliseconds"),
        "seconds": round(test.seconds, 3),
        "version": __version__,
        "identity": _identity(cfg, test, item_list.class_names),
    }
    path = parent / _free_name(parent, base, facts["identity"])

    def fill(folder: Path) -> None:
        further = report.write(test.run, test.evaluator, folder)
        facts["figures"] |= further.pop("figures", {})
        (folder / CONFIG).write_text(cfg.dump(), encoding="utf-8")
        text = json_text({"name": path.name} | facts | further, indent=1, ensure_ascii=False)
        (folder / FACTS).write_text(text + "\n", encoding="utf-8")

    replace_folder(path, fill)
    return path


def base_name(source: str, tag: str) -> tuple[str, str]:
    """(name of a folder, split) of a test of the list or folder ``source``.

    ``lists/k400/test.csv`` and ``1x3`` give ``k400-test-1x3`` and ``test``; a folder of videos
    without splits counts as ``test``.
    """
    path = Path(source).absolute()
    split = path.stem if path.suffix or path.name in _SPLITS else "test"
    parent = path.parent.name if path.suffix or path.name in _SPLITS else path.name
    start = re.sub(r"[^\w.-]+", "_", f"{parent}-{split}")[:_LONGEST].lstrip(".-")
    return f"{start}-{tag}", split


def _identity(cfg: CfgNode, test: FinishedTest, names: list[str]) -> str:
    """Hash of what the predictions of a test follow from."""
    item_list = test.run.loader.dataset.item_list
    parts = [item_list.fingerprint, test.run.tag, test.weights.sha256, *names]
    keys = (f"{key}={value!r}" for key, value in cfg.flat().items() if affects_answers(key))
    return short_hash("\n".join([*parts, *keys]))


def affects_answers(key: str) -> bool:
    """Whether the predictions of given weights for given views may depend on ``key``."""
    top, leaf = key.partition(".")[0], key.rpartition(".")[2]
    if key in _OF_TRAIN:
        return True
    return top not in _SECTIONS and key not in _KEYS and not leaf.startswith(_LEAVES)


def _free_name(parent: Path, base: str, identity: str) -> str:
    """``base``, ``base-2``, …: the folder of the same test, else the first that is not there."""
    names = sorted(path.name for path in parent.iterdir())
    numbered = re.compile(re.escape(base) + r"(-\d+)?")
    for name in filter(numbered.fullmatch, names):
        if _identity_of(parent / name) == identity:
            return name
    candidates = itertools.chain([base], (f"{base}-{number}" for number in itertools.count(2)))
    return next(name for name in candidates if name not in names)


def _identity_of(folder: Path) -> str:
    try:
        return json.loads((folder / FACTS).read_text(encoding="utf-8"))["identity"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""  # not a folder of a test, or one that somebody has changed: it is left alone
