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


def test_lists(tmp_path, jobs):
    assert generate(tmp_path, CompositionsSpec(train=20, test=3, seed=7))
    classes = split_classes()
    assert len(jobs) == 22 * 20 + 14 * 3 and {seed for *_, seed in jobs} == {7}
    for split, count in (("train", 20), ("val", 3), ("test", 3)):
        expected = [f"{name}/{clip:04d}" for name in classes[split] for clip in range(count)]
        assert rows(tmp_path / f"{split}.txt") == expected
    zeroshot = tmp_path / "zeroshot"
    # Two of twenty clips of a training class are its validation.
    for name, split, clips in (
        ("train", "train", range(2, 20)), ("val", "train", range(2)), ("test", "test", range(3))
    ):  # fmt: skip
        expected = [
            f"{words}/{clip:04d}.mp4,{label}"
            for label, words in enumerate(classes[split])
            for clip in clips
        ]
        assert rows(zeroshot / f"{name}.csv") == expected
    names = json.loads((zeroshot / "test_classes.json").read_text())
    assert list(names.values()) == classes["test"] and list(names) == [str(n) for n in range(8)]
    assert len(json.loads((zeroshot / "train_classes.json").read_text())) == 22
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
