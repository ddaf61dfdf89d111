"""The compositions: lists by hand, and clips that belong to their names."""

from __future__ import annotations

import json

import numpy as np
import pytest

from slowfast.datasets import compositions
from slowfast.datasets.compositions import CLASSES, CompositionsSpec, generate, split_classes
from slowfast.datasets.shapes_render import render_composition
from slowfast.utils.errors import UserError
from slowfast.utils.seeding import sample_rng


@pytest.fixture
def jobs(monkeypatch) -> list:
    """The clips that would be written."""
    written: list = []
    monkeypatch.setattr(compositions, "write_clips", lambda write, jobs, *_: written.extend(jobs))
    return written


def rows(file) -> list[str]:
    return file.read_text().splitlines()


def class_map(file) -> list[str]:
    names = json.loads(file.read_text())
    assert list(names) == [str(label) for label in range(len(names))]
    return list(names.values())


def test_lists(tmp_path, jobs):
    assert generate(tmp_path, CompositionsSpec(train=20, test=3, seed=7))
    classes = split_classes()
    assert len(jobs) == 22 * 20 + 14 * 3 and {seed for *_, seed in jobs} == {7}
    for split, count in (("train", 20), ("val", 3), ("test", 3)):
        expected = [f"{name}/{clip:04d}" for name in classes[split] for clip in range(count)]
        assert rows(tmp_path / f"{split}.txt") == expected
    # Two of twenty clips of a class, and one of three, are not trained on.
    few = set(classes["val"])
    learned = {"supervised": classes["train"], "zeroshot": sorted([*classes["train"], *few])}
    for task, names in learned.items():
        for part, many, less in (("train", range(2, 20), range(1, 3)), ("val", range(2), range(1))):
            expected = [
                f"{name}/{clip:04d}.mp4,{label}"
                for label, name in enumerate(names)
                for clip in (less if name in few else many)
            ]
            assert rows(tmp_path / task / f"{part}.csv") == expected
        assert class_map(tmp_path / task / "train_classes.json") == names
    assert {task: len(names) for task, names in learned.items()} == {
        "supervised": 22, "zeroshot": 28,
    }  # fmt: skip
    assert rows(tmp_path / "zeroshot/test.csv") == [
        f"{name}/{clip:04d}.mp4,{label}"
        for label, name in enumerate(classes["test"])
        for clip in range(3)
    ]
    assert class_map(tmp_path / "zeroshot/test_classes.json") == classes["test"]
    assert not generate(tmp_path, CompositionsSpec(train=20, test=3, seed=7))
    assert generate(tmp_path, CompositionsSpec(train=20, test=3, seed=8))


def test_one_clip_of_a_class_is_trained_on_and_validated(tmp_path, jobs):
    generate(tmp_path, CompositionsSpec(train=1, test=1))
    assert rows(tmp_path / "zeroshot/train.csv") == rows(tmp_path / "zeroshot/val.csv")
    for spec in (CompositionsSpec(train=0), CompositionsSpec(test=0)):
        with pytest.raises(UserError, match="a class needs clips"):
            generate(tmp_path, spec)


def test_classes_are_disjoint_and_their_words_are_trained_on():
    classes = split_classes()
    assert {split: len(names) for split, names in classes.items()} == {
        "train": 22, "val": 6, "test": 8,
    }  # fmt: skip
    assert sorted(name for names in classes.values() for name in names) == sorted(CLASSES)
    words = {word for name in classes["train"] for word in name.split()}
    assert {word for name in classes["test"] for word in name.split()} <= words


def test_a_clip_depends_on_seed_number_and_class(monkeypatch):
    written: dict[str, np.ndarray] = {}
    monkeypatch.setattr(compositions, "write_mp4", lambda path, clip: written.update({path: clip}))
    compositions._write_clip(("/set", "up arc steady", "0004", 7))
    expected = render_composition(
        "up", "arc", "steady", sample_rng(7, 0, 4, "composition up arc steady")
    )
    assert np.array_equal(written.pop("/set/videos/up arc steady/0004.mp4"), expected)
    assert not written
