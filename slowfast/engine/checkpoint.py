"""Checkpoints: names, atomic writing, pruning, and finding the newest valid one.

A checkpoint contains only tensors, numbers and texts, so that it can be read without running code.
It is a file, or a folder into which all processes have written (TRAIN.CHECKPOINT_FORMAT).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slowfast.models.weights.folder import HEAD, SUFFIX, is_complete
from slowfast.models.weights.read import Checkpoint
from slowfast.models.weights.write import write_archive
from slowfast.utils.errors import UserError
from slowfast.utils.files import make_dirs, settle_folders, write_atomic
from slowfast.utils.logging import get_logger
from slowfast.utils.yaml_text import BadYaml, load_yaml

logger = get_logger(__name__)

FOLDER = "checkpoints"
BEST = "checkpoint_best.pyth"
_FORMATS = {"file": ".pyth", "distributed": SUFFIX}
_MAX_MID_EPOCH = 2


def checkpoint_folder(output_dir: str | Path) -> Path:
    """The folder of a run's checkpoints."""
    return Path(output_dir) / FOLDER


def checkpoint_path(output_dir: str | Path, finished_epochs: int, task: str = "") -> Path:
    """``OUTPUT_DIR/checkpoints/[<task>_]checkpoint_epoch_00012.pyth``."""
    prefix = f"{task}_" if task else ""
    name = f"{prefix}checkpoint_epoch_{finished_epochs:05d}.pyth"
    return checkpoint_folder(output_dir) / name


def mid_epoch_path(output_dir: str | Path, epochs: int, iteration: int, task: str = "") -> Path:
    """``…/checkpoint_epoch_00012_iter_000300.pyth``: after 12 epochs and 300 iterations."""
    path = checkpoint_path(output_dir, epochs, task)
    return path.with_name(f"{path.stem}_iter_{iteration:06d}{path.suffix}")


def in_format(path: Path, form: str) -> Path:
    """The path of a checkpoint in a format of TRAIN.CHECKPOINT_FORMAT."""
    return path.with_suffix(_FORMATS[form])


def remove_checkpoint(path: Path) -> None:
    """Remove a file, or a folder; what is left of one is no checkpoint."""
    if path.is_dir():
        parked = path.with_name(f".{path.name}.removed.tmp")
        shutil.rmtree(parked, ignore_errors=True)
        path.rename(parked)
        shutil.rmtree(parked, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_other_formats(path: Path) -> None:
    """Remove the same checkpoint in other formats, from before TRAIN.CHECKPOINT_FORMAT was
    changed; after ``path`` was written."""
    for form in _FORMATS:
        if in_format(path, form) != path:
            remove_checkpoint(in_format(path, form))


def sorted_checkpoints(names: list[str], task: str = "") -> list[str]:
    """The checkpoints of ``task`` among the file names ``names``, newest first."""
    prefix = re.escape(f"{task}_") if task else ""
    pattern = re.compile(rf"{prefix}checkpoint_epoch_(\d+)(?:_iter_(\d+))?\.(?:pyth|dcp)")
    matches = [(match, name) for name in names if (match := pattern.fullmatch(name))]
    matches.sort(key=lambda pair: (int(pair[0][1]), int(pair[0][2] or 0)), reverse=True)
    return [name for _, name in matches]


def run_checkpoints(output_dir: str | Path, task: str = "") -> list[Path]:
    """All epoch and mid-epoch checkpoints of a run, newest first."""
    folder = checkpoint_folder(output_dir)
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    return [folder / name for name in sorted_checkpoints(names, task)]


def is_mid_epoch(path: Path) -> bool:
    """Whether the checkpoint was written inside an epoch."""
    return "_iter_" in path.name


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint; UserError if the disk is full or the folder cannot be written."""
    make_dirs(path.parent, "OUTPUT_DIR")

    write_atomic(path, lambda temporary: write_archive(content, temporary))


def prune_checkpoints(output_dir: str | Path, keep: int, task: str = "") -> None:
    """Remove all but the ``keep`` newest epoch checkpoints; 0 keeps all.

    Keeps the two newest mid-epoch checkpoints and drops them once the epoch checkpoint exists.
    """
    paths = run_checkpoints(output_dir, task)
    epochs = [path for path in paths if not is_mid_epoch(path)]
    mid_epoch = [path for path in paths if is_mid_epoch(path)]
    newest = paths.index(epochs[0]) if epochs else len(paths)
    old = [path for path in mid_epoch if paths.index(path) > newest] + mid_epoch[_MAX_MID_EPOCH:]
    for path in {*old, *(epochs[keep:] if keep > 0 else ())}:
        remove_checkpoint(path)


def remove_unfinished(output_dir: str | Path) -> None:
    """Remove incomplete files and folders of killed processes."""
    settle_folders(checkpoint_folder(output_dir))
    for path in checkpoint_folder(output_dir).glob(".*.tmp"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif ".pyth." in path.name:
            path.unlink(missing_ok=True)


def read_newest(output_dir: str | Path, task: str = "", mapped: bool = False) -> Checkpoint | None:
    """The newest checkpoint that can be read; damaged ones are skipped with a warning.

    ``mapped`` as in :func:`slowfast.models.weights.read.read_content`.
    """
    paths = run_checkpoints(output_dir, task)
    newest = next(_readable(paths, mapped), None)
    if paths and newest is None:
        logger.warning("none of the %d checkpoints of %s can be read", len(paths), output_dir)
    return newest


def _readable(paths: list[Path], mapped: bool) -> Iterator[Checkpoint]:
    for path in paths:
        try:
            checkpoint = Checkpoint.read(path, mapped=mapped)
        except UserError as error:
            logger.warning("skipping a damaged checkpoint: %s", error.problems[0].message)
            continue
        if not isinstance(checkpoint.content.get("model_state"), dict):
            logger.warning("skipping %s: it contains no model_state", path)
            continue
        yield checkpoint


def newest_setting(output_dir: str | Path, key: str, task: str = "") -> tuple[Path | None, Any]:
    """(path, value of ``key``) of the configuration of the newest checkpoint that can be read; None
    where there is none, and where the configuration is not readable, which resuming will say."""
    for path in run_checkpoints(output_dir, task):
        try:
            facts = Checkpoint.read(path / HEAD if path.is_dir() else path, mapped=True)
            tree = load_yaml(str(facts.content.get("cfg", "")))
        except (UserError, BadYaml) as error:
            logger.debug("%s says nothing of %s: %s", path, key, error)
            continue
        for name in key.split("."):
            tree = tree.get(name) if isinstance(tree, dict) else None
        return path, tree
    return None, None


def find_tested(output_dir: str | Path, which: str, task: str = "") -> Checkpoint | None:
    """The checkpoint of a run to test: ``best`` if there is one, else the newest valid one.

    UserError if the best one cannot be read.
    """
    for form in _FORMATS if which == "best" else ():
        best = in_format(checkpoint_folder(output_dir) / BEST, form)
        if best.is_file() or is_complete(best):
            return Checkpoint.read(best, "TEST.USE_CHECKPOINT", mapped=True)
    return read_newest(output_dir, task, mapped=True)
