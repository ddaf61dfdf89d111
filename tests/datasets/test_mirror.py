"""Labels of mirrored clips."""

from __future__ import annotations

import json

import pytest

from slowfast.config.load import load_config
from slowfast.datasets.base import SampleKey
from slowfast.datasets.build import build_dataset
from slowfast.datasets.mirror import mirrored_labels, mirrored_name
from slowfast.utils.errors import UserError
from tests.conftest import words

JESTER = [
    "Swiping Left",
    "Swiping Right",
    "Thumb Up",
    "Turning Hand Clockwise",
    "Turning Hand Counterclockwise",
    "Sliding Two Fingers Left",
]


@pytest.mark.parametrize(
    "name, other",
    [
        ("Swiping Left", "Swiping Right"),
        ("Pushing something from left to right", "Pushing something from right to left"),
        ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
        ("spin anticlockwise", "spin clockwise"),
        ("Leftovers", "Leftovers"),
    ],
)
def test_names(name, other):
    assert mirrored_name(name) == other


def flips(**data):
    return load_config(overrides=words({"NUM_GPUS": 0} | {f"DATA.{k}": v for k, v in data.items()}))


def test_by_names_and_classes_without_a_partner():
    labels = mirrored_labels(flips(RANDOM_FLIP=True, MIRROR_CLASSES="names"), JESTER)
    assert labels == {0: 1, 1: 0, 3: 4, 4: 3, 5: None}
    assert mirrored_labels(flips(RANDOM_FLIP=False, MIRROR_CLASSES="names"), JESTER) == {}


def test_a_file_of_pairs(tmp_path):
    file = tmp_path / "pairs.json"
    file.write_text(json.dumps([["Thumb Up", "Swiping Left"]]))
    cfg = flips(RANDOM_FLIP=True, MIRROR_CLASSES=file)
    assert mirrored_labels(cfg, JESTER) == {2: 0, 0: 2}
    file.write_text(json.dumps([["Thumb Up", "Thumb Down"]]))
    with pytest.raises(UserError, match="not a list of pairs of class names"):
        mirrored_labels(cfg, JESTER)


def test_flips_of_directions_are_pointed_out(caplog):
    assert mirrored_labels(flips(RANDOM_FLIP=True), JESTER) == {}
    assert "turns 'Swiping Left' into 'Swiping Right' and 3 more classes" in caplog.text


def test_mirrored_clips_change_their_label(make_cfg):
    cfg = make_cfg(
        {
            "DATA.RANDOM_FLIP": True,
            "DATA.MIRROR_CLASSES": "names",
            "DATA.TRAIN_JITTER_SCALES": [32, 32],
        }
    )
    plain = build_dataset(
        make_cfg({"DATA.RANDOM_FLIP": False, "DATA.TRAIN_JITTER_SCALES": [32, 32]}), "train"
    )
    mirrored = build_dataset(cfg, "train")
    left, right = (plain.class_names.index(name) for name in ("left", "right"))
    swapped = 0
    for epoch in range(3):
        for index, item in enumerate(plain.items):
            one, other = plain[SampleKey(epoch, index)], mirrored[SampleKey(epoch, index)]
            flipped = not one["video"].equal(other["video"])
            if flipped:
                assert one["video"].flip(-1).equal(other["video"])
            expected = {left: right, right: left}.get(item.label, item.label)
            assert other["label"] == (expected if flipped else item.label)
            swapped += flipped and item.label in (left, right)
    assert swapped > 5


def test_copies_share_a_label():
    with pytest.raises(UserError, match="augmented copies of a clip share one label"):
        load_config(
            overrides=words({"NUM_GPUS": 0, "DATA.MIRROR_CLASSES": "names", "AUG.NUM_SAMPLE": 2})
        )
