"""Folders of classes: which files are videos, which folders are frames, and what is left out."""

from __future__ import annotations

import pytest

from slowfast.config.load import load_config
from slowfast.datasets.build import dataset_class
from slowfast.datasets.class_folders import part_folders, read_class_folders
from slowfast.datasets.lists import VIDEO_SUFFIXES
from slowfast.utils.errors import UserError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def below(root, found):
    return [(item.path.removeprefix(f"{root}/"), item.label) for item in found.items]


def test_every_kind_of_video_is_found(tmp_path):
    names = [f"video{suffix}" for suffix in VIDEO_SUFFIXES] + ["K.MP4", "T.Ts"]
    assert {"video.mp4", "video.ts", "video.gif", "video.3gp"} <= set(names)
    for folder in ("wave", "jump", ".hidden"):
        touch(tmp_path / folder, *names, "notes.txt", "cover.jpg", ".DS_Store")
    found = read_class_folders(tmp_path, "K")
    assert found.class_names == ["jump", "wave"]
    assert sorted(below(tmp_path, found)) == sorted(
        (f"{folder}/{name}", label)
        for label, folder in enumerate(found.class_names)
        for name in names
    )
    assert sorted(found.left_out) == [
        f"{folder}/{name}" for folder in ("jump", "wave") for name in ("cover.jpg", "notes.txt")
    ]


def test_videos_in_folders_of_a_class_and_folders_of_frames(tmp_path):
    touch(tmp_path, "run/2020/a.mp4", "run/2020/may/b.mp4", "run/z.mp4", "walk/c.mp4")
    touch(tmp_path, *(f"run/frames/{n:05d}.jpg" for n in range(1, 4)))
    touch(tmp_path, "walk/with_cover/d.mp4", "walk/with_cover/cover.jpg", "walk/nothing/.keep")
    assert below(tmp_path, read_class_folders(tmp_path, "K")) == [
        ("run/2020/a.mp4", 0),
        ("run/2020/may/b.mp4", 0),
        ("run/frames", 0),
        ("run/z.mp4", 0),
        ("walk/c.mp4", 1),
        ("walk/with_cover/d.mp4", 1),
    ]


def test_a_link_to_a_folder_above_is_entered_once(tmp_path):
    touch(tmp_path, "set/run/a.mp4")
    (tmp_path / "set/run/again").symlink_to(tmp_path / "set")
    assert below(tmp_path, read_class_folders(tmp_path / "set", "K")) == [("set/run/a.mp4", 0)]


def test_what_is_left_out_is_counted_by_suffix(tmp_path):
    touch(tmp_path, "run/a.mp4", "run/b.txt", "run/c.txt", "run/d.JSON", "stray.mp4", "empty/.keep")
    found = read_class_folders(tmp_path, "K")
    assert found.without_videos() == ["empty"]
    text = found.describe_left_out()
    assert text.startswith("left out, no video or in no class: 2 .txt, 1 .mp4, 1 .json; ")
    assert f"e.g. {tmp_path}/stray.mp4" in text


def test_videos_without_class_folders_are_explained(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    with pytest.raises(UserError, match=r"(?s)holds no <class>/<video> files.*in no class: 2 .mp4"):
        read_class_folders(tmp_path, "K")


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_parts_of_a_set(tmp_path, name):
    touch(tmp_path, "train/run/a.mp4", f"{name}/run/b.mp4")
    assert part_folders(tmp_path) == {"train": tmp_path / "train", "val": tmp_path / name}
    cfg = load_config(overrides={"DATA.PATH_TO_DATA_DIR": str(tmp_path), "TRAIN.DATASET": "folder"})
    for split, folder in (("train", "train"), ("val", name)):
        assert dataset_class(cfg, split).read_list(cfg, split).source == str(tmp_path / folder)


def test_a_class_may_be_called_train(tmp_path):
    touch(tmp_path, "train/a.mp4", "plane/b.mp4")
    assert part_folders(tmp_path) == {}
    assert read_class_folders(tmp_path, "K").class_names == ["plane", "train"]
