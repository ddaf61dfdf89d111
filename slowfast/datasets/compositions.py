"""``compositions``: 36 classes of motion, each a direction, a path and a speed profile.

For few-shot and zero-shot work: the classes of training, validation and test are disjoint, and
every word of a test class occurs in training classes. ``{train,val,test}.txt`` are few-shot
lists. ``zeroshot/`` (training and validation classes are learned, test classes are not) and
``supervised/`` (training classes) hold lists with labels and class maps, where ``val.csv`` are
clips of learned classes that are not trained on.
"""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from slowfast.datasets.moving_shapes import holds, making, write_clips
from slowfast.datasets.shapes_render import DIRECTIONS, PATHS, SPEEDS, render_composition
from slowfast.utils.errors import UserError
from slowfast.utils.files import make_dirs, write_text_atomic
from slowfast.utils.seeding import sample_rng
from slowfast.video.writer import write_mp4

CLASSES = [" ".join(words) for words in itertools.product(DIRECTIONS, PATHS, SPEEDS)]
_MARKER = "compositions.json"
_VERSION = 3
_SPLITS = ("train", "val", "test")
_LEARNED_FILES = ("train.csv", "val.csv", "train_classes.json")
_VAL_CLASSES, _TEST_CLASSES = 6, 8
_VAL_FRACTION = 10  # one in ten clips of a learned class is not trained on


@dataclass(frozen=True)
class CompositionsSpec:
    """Clips per class, in the training list and in the other two."""

    train: int = 40
    test: int = 40
    seed: int = 0


def split_classes() -> dict[str, list[str]]:
    """22 training, 6 validation and 8 test classes; fixed, spread over all words."""
    order = [CLASSES[i] for i in sample_rng(0, 0, 0, "compositions").permutation(len(CLASSES))]
    test, rest = order[:_TEST_CLASSES], order[_TEST_CLASSES:]
    val, train = rest[:_VAL_CLASSES], rest[_VAL_CLASSES:]
    return {"train": sorted(train), "val": sorted(val), "test": sorted(test)}


def generate(
    folder: str | Path, spec: CompositionsSpec, workers: int | None = None, progress: bool = True
) -> bool:
    """Write ``videos/<class>/<clip>.mp4`` and ``{train,val,test}.txt`` of ``class/clip`` lines.

    False if the set exists already. UserError if a class would have no clips, or the folder holds
    other files.
    """
    if min(spec.train, spec.test) < 1:
        raise UserError("a class needs clips", "at least 1", "--train / --test")
    folder = make_dirs(folder)
    content, marker = {"version": _VERSION} | asdict(spec), folder / _MARKER
    if holds(marker, content):
        return False
    files = [f"{split}.txt" for split in _SPLITS]
    files += [f"zeroshot/{name}" for name in (*_LEARNED_FILES, "test.csv", "test_classes.json")]
    files += [f"supervised/{name}" for name in _LEARNED_FILES]
    with making(marker, content, files):
        jobs = []
        for split, names in split_classes().items():
            count = spec.train if split == "train" else spec.test
            rows = [(name, f"{clip:04d}") for name in names for clip in range(count)]
            for name in names:
                make_dirs(folder / "videos" / name)
            jobs += [(str(folder), name, clip, spec.seed) for name, clip in rows]
            write_text_atomic(folder / f"{split}.txt", "".join(f"{n}/{c}\n" for n, c in rows))
        _write_labels(folder, spec)
        write_clips(_write_clip, jobs, "compositions", workers, progress)
    return True


def _write_labels(folder: Path, spec: CompositionsSpec) -> None:
    """Lists ``path,label`` and class maps of ``supervised`` and ``zeroshot`` training, and of a
    zero-shot test on unseen classes."""
    classes = split_classes()
    clips = {
        name: spec.train if split == "train" else spec.test
        for split, names in classes.items()
        for name in names
    }
    both = sorted(classes["train"] + classes["val"])
    learned = {"supervised": classes["train"], "zeroshot": both}
    for task, names in learned.items():
        target = make_dirs(folder / task)
        held = {name: _validation_clips(clips[name]) for name in names}
        _write_list(target / "train.csv", {n: range(held[n], clips[n]) for n in names})
        _write_list(target / "val.csv", {n: range(held[n] or 1) for n in names})
        _write_class_map(target / "train_classes.json", names)
    _write_list(folder / "zeroshot/test.csv", {n: range(clips[n]) for n in classes["test"]})
    _write_class_map(folder / "zeroshot/test_classes.json", classes["test"])


def _validation_clips(clips: int) -> int:
    """How many clips of a class are not trained on."""
    return max(clips // _VAL_FRACTION, 1) if clips > 1 else 0


def _write_list(file: Path, clips: dict[str, range]) -> None:
    """Lines ``class/clip.mp4,label``; labels are places in ``clips``."""
    rows = [
        f"{name}/{clip:04d}.mp4,{label}\n"
        for label, (name, numbers) in enumerate(clips.items())
        for clip in numbers
    ]
    write_text_atomic(file, "".join(rows))


def _write_class_map(file: Path, names: list[str]) -> None:
    write_text_atomic(file, json.dumps(dict(enumerate(names)), indent=1))


def _write_clip(job: tuple[str, str, str, int]) -> None:
    folder, name, clip, seed = job
    rng = sample_rng(seed, 0, int(clip), f"composition {name}")
    frames = render_composition(*name.split(), rng)
    write_mp4(os.path.join(folder, "videos", name, f"{clip}.mp4"), frames)
