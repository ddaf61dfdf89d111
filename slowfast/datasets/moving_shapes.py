"""``moving_shapes``: the embedded data set, H.264 files that are generated from a seed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from slowfast.config.node import CfgNode
from slowfast.datasets import lists
from slowfast.datasets.base import DATASET_REGISTRY, ListDataset
from slowfast.datasets.classnames import DEFAULT_NAME
from slowfast.datasets.lists import ItemList
from slowfast.datasets.shapes_render import CLASSES, render_clip
from slowfast.utils.errors import UserError
from slowfast.utils.files import make_dirs, remove_leftovers, write_text_atomic
from slowfast.utils.processes import enter_worker
from slowfast.utils.runtime import cpu_count
from slowfast.utils.seeding import sample_rng
from slowfast.video.writer import write_mp4

_MARKER = "moving_shapes.json"
_SPLITS = ("train", "val", "test")
_VERSION = 1


@DATASET_REGISTRY.register("moving_shapes")
class MovingShapes(ListDataset):
    """Lists in Kinetics format, with paths relative to the data folder itself."""

    reads_remote_lists = False

    @classmethod
    def read_list(cls, cfg: CfgNode, split: str) -> ItemList:
        folder = cfg.DATA.PATH_TO_DATA_DIR
        if not (Path(folder) / _MARKER).is_file():
            raise UserError(
                f"{folder!r} holds no moving_shapes set" if folder else "is not set",
                "make it with: python tools/make_moving_shapes.py data/moving_shapes",
                "DATA.PATH_TO_DATA_DIR",
            )
        file = cls.list_file(cfg, split)
        prefix = cfg.DATA.PATH_PREFIX or folder
        items = lists.read_path_list(
            file, cfg.DATA.PATH_LABEL_SEPARATOR, prefix, "DATA.PATH_TO_DATA_DIR"
        )
        return ItemList(items, str(file))


@dataclass(frozen=True)
class ShapesSpec:
    """What to generate; ``classes`` is even, the counts are clips per class."""

    classes: int = 16
    train: int = 40
    val: int = 8
    test: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.classes not in range(2, len(CLASSES) + 1, 2):
            raise UserError(
                f"cannot make {self.classes} classes", "give an even number, 2 to 16", "--classes"
            )

    @property
    def class_names(self) -> list[str]:
        return CLASSES[: self.classes]


def is_complete(folder: str | Path, spec: ShapesSpec) -> bool:
    """True if ``folder`` holds exactly this set."""
    return holds(Path(folder) / _MARKER, {"version": _VERSION} | asdict(spec))


def holds(marker: Path, content: dict[str, Any]) -> bool:
    """Whether the marker file of an embedded set says that it is the one of ``content``."""
    try:
        return json.loads(marker.read_text(encoding="utf-8")) == content
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


@contextmanager
def making(marker: Path, content: dict[str, Any], files: Sequence[str]) -> Iterator[None]:
    """While an embedded set is made, a file beside its ``marker`` says that it is not finished; the
    marker is written in the end. ``files`` are those beside it that are written anew.

    UserError if the folder holds something else than such a set, which would be overwritten.
    """
    unfinished = marker.with_suffix(".unfinished")
    strange = [path.name for path in marker.parent.iterdir() if path.name[0] != "."]
    if strange and not marker.exists() and not unfinished.exists():
        raise UserError(
            f"{marker.parent} holds other files, e.g. {sorted(strange)[0]}",
            "name a new folder",
            "FOLDER",
        )
    remove_leftovers([marker, unfinished, *(marker.parent / file for file in files)])
    write_text_atomic(unfinished, "the set is made; the same command goes on after a stop\n")
    marker.unlink(missing_ok=True)
    yield
    write_text_atomic(marker, json.dumps(content))
    unfinished.unlink()


def generate(
    folder: str | Path, spec: ShapesSpec, workers: int | None = None, progress: bool = True
) -> bool:
    """Write videos, lists and class names; False if the set exists already.

    A marker file is written last, so that an interrupted generation starts again. UserError if the
    folder holds other files.
    """
    folder = make_dirs(folder)
    if is_complete(folder, spec):
        return False
    files = [*(f"{split}.csv" for split in _SPLITS), DEFAULT_NAME]
    with making(folder / _MARKER, {"version": _VERSION} | asdict(spec), files):
        jobs = _write_shape_lists(folder, spec)
        write_clips(_write_pair, jobs, "moving_shapes", workers, progress)
    return True


def _write_shape_lists(folder: Path, spec: ShapesSpec) -> list[Any]:
    """Write lists and class names; gives what :func:`_write_pair` is called with."""
    jobs = []
    for number, split in enumerate(_SPLITS):
        rows = []
        for pair in range(0, spec.classes, 2):
            for clip in range(getattr(spec, split)):
                names = [f"videos/{split}/{CLASSES[pair + k]}_{clip:04d}.mp4" for k in (0, 1)]
                rows += [f"{name} {pair + k}" for k, name in enumerate(names)]
                jobs.append((str(folder), names, pair, (spec.seed, number, clip)))
        make_dirs(folder / "videos" / split)
        write_text_atomic(folder / f"{split}.csv", "\n".join(rows) + "\n")
    write_text_atomic(folder / DEFAULT_NAME, "\n".join(spec.class_names) + "\n")
    return jobs


def write_clips(
    write: Callable[[Any], None],
    jobs: Sequence[Any],
    title: str,
    workers: int | None,
    progress: bool,
) -> None:
    """Call ``write`` for every job, in ``workers`` processes (None: one per core)."""
    pause = 0.1 if sys.stderr.isatty() else 5.0  # a bar on a terminal, a few lines in a log
    with ProcessPoolExecutor(workers or cpu_count(), initializer=_init_worker) as pool:
        done = pool.map(write, jobs, chunksize=8)
        bar = tqdm(done, total=len(jobs), desc=title, disable=not progress, mininterval=pause)
        for _ in bar:
            pass


def _init_worker() -> None:
    enter_worker()
    cv2.setNumThreads(0)


def _write_pair(job: tuple[str, list[str], int, tuple[int, int, int]]) -> None:
    """Write one clip as class ``pair``, and the same frames in reverse order as ``pair + 1``."""
    folder, names, pair, (seed, split, number) = job
    rng = sample_rng(seed, split, number, f"shapes {CLASSES[pair]}")
    clip = render_clip(CLASSES[pair], rng)
    for name, frames in zip(names, (clip, clip[::-1])):
        write_mp4(os.path.join(folder, name), frames)
