"""``compositions``: 36 classes of motion, each a direction, a path and a speed profile.

For few-shot and zero-shot work: the classes of training, validation and test are disjoint, and
every word of a test class occurs in training classes. ``{train,val,test}.txt`` are few-shot
lists; ``zeroshot/`` holds lists with labels and class maps, where ``val.csv`` are clips of training
classes that are not trained on.
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
_VERSION = 2
_SPLITS = ("train", "val", "test")
_VAL_CLASSES, _TEST_CLASSES = 6, 8
_VAL_FRACTION = 10  # one in ten clips of a training class validates zero-shot training


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
    files += [f"zeroshot/{split}.csv" for split in _SPLITS]
    files += [f"zeroshot/{split}_classes.json" for split in ("train", "test")]
    with making(marker, content, files):
        jobs = []
        for split, names in split_classes().items():
            count = spec.train if split == "train" else spec.test
            rows = [(name, f"{clip:04d}") for name in names for clip in range(count)]
            for name in names:
                make_dirs(folder / "videos" / name)
            jobs += [(str(folder), name, clip, spec.seed) for name, clip in rows]
            write_text_atomic(folder / f"{split}.txt", "".join(f"{n}/{c}\n" for n, c in rows))
        _write_zeroshot(folder, spec)
        write_clips(_write_clip, jobs, "compositions", workers, progress)
    return True


def _write_zeroshot(folder: Path, spec: CompositionsSpec) -> None:
    """Lists ``path,label`` and class maps for training, and for a test on unseen classes."""
    target, classes = make_dirs(folder / "zeroshot"), split_classes()
    num_val = max(spec.train // _VAL_FRACTION, 1) if spec.train > 1 else 0
    parts = {
        "train": ("train", range(num_val, spec.train)),
        "val": ("train", range(num_val or 1)),
        "test": ("test", range(spec.test)),
    }
    for name, (split, clips) in parts.items():
        rows = [
            f"{words}/{clip:04d}.mp4,{label}\n"
            for label, words in enumerate(classes[split])
            for clip in clips
        ]
        write_text_atomic(target / f"{name}.csv", "".join(rows))
    for split in ("train", "test"):
        names = {str(label): name for label, name in enumerate(classes[split])}
        write_text_atomic(target / f"{split}_classes.json", json.dumps(names, indent=1))


def _write_clip(job: tuple[str, str, str, int]) -> None:
    folder, name, clip, seed = job
    rng = sample_rng(seed, 0, int(clip), f"composition {name}")
    frames = render_composition(*name.split(), rng)
    write_mp4(os.path.join(folder, "videos", name, f"{clip}.mp4"), frames)
