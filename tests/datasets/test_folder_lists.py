"""Folders of classes become lists: divided at random, or as their parts are."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest

from slowfast.datasets.folder_lists import from_folder
from slowfast.utils.errors import UserError


@pytest.fixture
def classes(tmp_path):
    """Two classes with spaces in their names, five videos each."""
    for name in ("go left", "go right"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for n in range(5):
            (tmp_path / "videos" / name / f"clip {n}.mp4").touch()
    return tmp_path / "videos"


def labels(items):
    return sorted(item.label for item in items)


def test_a_folder_is_divided_class_by_class(classes):
    made = from_folder(classes, val=0.2, test=0.2)
    assert made.class_names == ["go left", "go right"] and made.notes == []
    assert {k: labels(v) for k, v in made.splits.items()} == {
        "train": [0, 0, 0, 1, 1, 1],
        "val": [0, 1],
        "test": [0, 1],
    }
    paths = [item.path for items in made.splits.values() for item in items]
    assert len(set(paths)) == 10
    assert from_folder(classes, 0.2, 0.2).splits == made.splits
    assert from_folder(classes, 0.2, 0.2, seed=1).splits != made.splits


def test_without_a_test_part_it_is_the_validation_and_that_is_said(classes):
    made = from_folder(classes, val=0.2, test=0)
    assert made.splits["test"] == made.splits["val"] and len(made.splits["train"]) == 8
    assert made.notes == ["test.csv holds the videos of val.csv"]


def test_without_both_parts_they_are_the_training_and_that_is_said(classes):
    made = from_folder(classes, val=0, test=0)
    assert {k: len(v) for k, v in made.splits.items()} == {"train": 10, "val": 10, "test": 10}
    assert [note.partition(":")[0] for note in made.notes] == [
        "val.csv holds the videos of train.csv",
        "test.csv holds the videos of train.csv",
    ]


def test_too_few_videos_in_any_class_are_told_at_once(classes):
    with pytest.raises(UserError) as caught:
        from_folder(classes, val=0.8, test=0.2)
    assert [problem.key for problem in caught.value.problems] == ["go left", "go right"]
    assert "'go left' has 5 videos, too few for one of training and 4 of val and 1" in str(
        caught.value
    )


def test_every_remedy_leads_somewhere(classes):
    for n in range(1, 5):
        (classes / "go left" / f"clip {n}.mp4").unlink()
    with pytest.raises(UserError, match="set --val 0 or --test 0"):
        from_folder(classes)
    with pytest.raises(UserError, match="remove the folder, or set --val 0$"):
        from_folder(classes, test=0)
    with pytest.raises(UserError, match="add videos, or remove the folder$"):
        from_folder(classes, val=0, required=("test",))
    assert len(from_folder(classes, val=0, test=0).splits["train"]) == 6


def test_class_folders_without_videos_are_left_out_and_named(classes):
    (classes / "a empty").mkdir()
    (classes / "go right" / "notes.txt").touch()
    made = from_folder(classes, 0.2, 0.2)
    assert made.class_names == ["go left", "go right"] and labels(made.splits["val"]) == [0, 1]
    assert made.notes[0] == "class folders without videos are left out: a empty"
    assert "left out, no video or in no class: 1 .txt" in made.notes[1]


def test_folders_that_are_divided_already(classes, tmp_path):
    for part in ("train", "test"):
        shutil.copytree(classes, tmp_path / "parts" / part)
    made = from_folder(tmp_path / "parts")
    assert {k: len(v) for k, v in made.splits.items()} == {"train": 10, "test": 10, "val": 10}
    assert made.notes == ["val.csv holds the videos of test.csv"]
    (tmp_path / "parts" / "extra").mkdir()
    shutil.rmtree(tmp_path / "parts" / "test" / "go left")
    made = from_folder(tmp_path / "parts")
    assert labels(made.splits["test"]) == [1] * 5  # by name, not by the order of the folders
    assert f"{tmp_path}/parts/test has no folder of go left" in made.notes
    assert "folders beside train are left out: extra" in made.notes
    (tmp_path / "parts" / "test" / "go up").mkdir()
    (tmp_path / "parts" / "test" / "go up" / "a.mp4").touch()
    with pytest.raises(UserError, match="different classes: go up"):
        from_folder(tmp_path / "parts")


def test_a_train_folder_alone_is_divided(classes, tmp_path):
    shutil.copytree(classes, tmp_path / "parts" / "train")
    made = from_folder(tmp_path / "parts", 0.2, 0.2)
    assert {k: len(v) for k, v in made.splits.items()} == {"train": 6, "val": 2, "test": 2}
    assert made.notes == [
        f"{tmp_path}/parts has no val or test folder: {tmp_path}/parts/train is divided"
    ]


def test_labels_of_another_list_are_kept(classes):
    """Two of the four classes of a network: their labels are those of the network."""
    names = ["up", "go right", "down", "go left"]
    made = from_folder(classes, 0.2, 0, classes=names)
    assert made.class_names == names and labels(made.splits["val"]) == [1, 3]
    assert all("go right" in item.path for item in made.splits["val"] if item.label == 1)
    assert f"{classes} has no videos of 2 of 4 classes: up, down" in made.notes
    with pytest.raises(UserError) as caught:
        from_folder(classes, classes=["go left", "go rigth"])
    (problem,) = caught.value.problems
    assert "no class is called 'go right'" in problem.message
    assert "did you mean go rigth" in problem.remedy


def test_folders_of_frames_are_counted_by_their_template(tmp_path):
    for video, names in (("a", ["img_1.png", "img_2.png"]), ("b", ["img_1.png"]), ("c", ["x.png"])):
        for name in names:
            path = tmp_path / "run" / video / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    made = from_folder(tmp_path, 0, 0, template="img_{:d}.png")
    assert [(i.path[-1], i.num_frames) for i in made.splits["train"]] == [("a", 2), ("b", 1)]
    assert made.notes[0].endswith(f"1 no suffix; e.g. {tmp_path}/run/c")
    with pytest.raises(UserError, match="none of 3 folders of images holds {:05d}.jpg"):
        from_folder(tmp_path)
