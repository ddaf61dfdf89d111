"""Official annotations become lists, and lists a configuration that the loaders read."""

from __future__ import annotations

import json
import shutil

import pytest

from slowfast.config.load import load_config
from slowfast.config.yaml_file import find_config
from slowfast.datasets import make_lists
from slowfast.datasets.build import build_dataset
from slowfast.datasets.folder_lists import from_folder
from slowfast.utils.errors import UserError


@pytest.fixture
def classes(tmp_path, video):
    """Two classes with spaces in their names, five videos each."""
    for name in ("go left", "go right"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for n in range(5):
            shutil.copy(video, tmp_path / "videos" / name / f"clip {n}.mp4")
    return tmp_path / "videos"


def test_the_yaml_file_is_ready(classes, tmp_path):
    made = from_folder(classes, 0.2, 0.2)
    base = tmp_path / "base.yaml"
    base.write_text("NUM_GPUS: 0\nSOLVER:\n  MAX_EPOCH: 3\n")
    config = make_lists.write_lists(made, tmp_path / "lists", base)
    cfg = load_config([config])
    assert cfg.SOLVER.MAX_EPOCH == 3 and cfg.MODEL.NUM_CLASSES == 2 and cfg.NUM_GPUS == 0
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        dataset = build_dataset(cfg, split)
        assert [i.path for i in dataset.items] == [i.path for i in made.splits[split]]
        assert len(dataset) == count and dataset.class_names == ["go left", "go right"]
    assert not (tmp_path / "lists" / "missing.txt").exists()


def test_the_lists_hold_in_every_folder(classes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = tmp_path / "base.yaml"
    base.write_text("DATA: {PATH_LABEL_SEPARATOR: ','}\nNUM_GPUS: 8\n")
    config = make_lists.write_lists(from_folder("videos"), "lists", base, weights="w.pth")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    cfg = load_config([tmp_path / config])
    assert f"{tmp_path}/lists" == cfg.DATA.PATH_TO_DATA_DIR
    assert f"{tmp_path}/w.pth" == cfg.TRAIN.CHECKPOINT_FILE_PATH
    assert cfg.DATA.PATH_LABEL_SEPARATOR == " "  # no warning that the list has another one
    assert cfg.origins["NUM_GPUS"].startswith("-1 in")
    items = build_dataset(cfg, "train").items
    assert {str(path) for path in classes.rglob("*.mp4")} >= {item.path for item in items}


def test_a_published_base_is_named_without_its_place(classes, tmp_path):
    config = make_lists.write_lists(
        from_folder(classes), tmp_path / "lists", find_config("quickstart/stfm")
    )
    assert config.read_text().startswith("_BASE_: configs/quickstart/stfm.yaml\n")
    assert load_config([config]).STFM.ENABLE


def test_kinetics(tmp_path, video):
    videos = tmp_path / "videos" / "abseiling"
    videos.mkdir(parents=True)
    shutil.copy(video, videos / "0347ZoDXyP0_000095_000105.mp4")
    shutil.copy(video, tmp_path / "videos" / "-3B32lodo2M.mkv")
    head = "label,youtube_id,time_start,time_end,split,is_cc\n"
    (tmp_path / "train.csv").write_text(
        head + "zumba,-3B32lodo2M,59,69,train,0\n"
        '"testing, tasting",0347ZoDXyP0,95,105,train,0\nzumba,absent00000,1,11,train,0\n'
    )
    (tmp_path / "val.csv").write_text(head + "zumba,0347ZoDXyP0,95,105,validate,0\n")
    made = make_lists.from_kinetics([tmp_path / "train.csv", tmp_path / "val.csv"], videos.parent)
    assert made.class_names == ["testing, tasting", "zumba"]
    assert [(i.path.split("/")[-1], i.label) for i in made.splits["train"]] == [
        ("-3B32lodo2M.mkv", 1),
        ("0347ZoDXyP0_000095_000105.mp4", 0),
    ]
    assert len(made.splits["val"]) == 1 and made.splits["test"] == made.splits["val"]
    assert made.missing == ["train absent00000_000001_000011"]
    make_lists.write_lists(made, tmp_path / "lists")
    assert (tmp_path / "lists/missing.txt").read_text() == "train absent00000_000001_000011\n"
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"other\.csv: has no column label"):
        make_lists.from_kinetics([tmp_path / "other.csv"], videos)


def test_frame_folders_are_counted(tmp_path, video):
    import cv2
    import numpy as np

    annotations, frames = tmp_path / "a", tmp_path / "frames"
    annotations.mkdir()
    for folder, count in (("1", 3), ("2", 5), ("3", 0)):
        (frames / folder).mkdir(parents=True)
        for n in range(1, count + 1):
            cv2.imwrite(str(frames / folder / f"{n:05d}.jpg"), np.zeros((8, 8, 3), np.uint8))
    (annotations / "jester-v1-labels.csv").write_text("Swiping Left\nNo gesture\n")
    (annotations / "jester-v1-train.csv").write_text("1;No gesture\n3;Swiping Left\n9;No gesture\n")
    (annotations / "jester-v1-validation.csv").write_text("2;Swiping Left\n")
    made = make_lists.from_official("jester", annotations, frames)
    assert [(i.num_frames, i.label) for i in made.splits["train"]] == [(3, 1)]
    assert made.missing == [f"train {frames}/3", f"train {frames}/9"]
    config = make_lists.write_lists(made, tmp_path / "lists")
    assert (tmp_path / "lists/val.csv").read_text() == f"{frames}/2 5 0\n"
    cfg = load_config([config], ["NUM_GPUS", "0"])
    assert cfg.DATA.SAMPLING == "segment" and cfg.DATA.RANDOM_FLIP is False


def test_official_files(tmp_path, video):
    ucf, videos = tmp_path / "ucf", tmp_path / "videos"
    ucf.mkdir()
    for name in ("Archery", "Bowling"):
        (videos / name).mkdir(parents=True)
        shutil.copy(video, videos / name / f"v_{name}_g01_c01.avi")
    (ucf / "classInd.txt").write_text("1 Archery\n2 Bowling\n")
    for number in (1, 2):
        (ucf / f"trainlist0{number}.txt").write_text("Archery/v_Archery_g01_c01.avi 1\n")
        (ucf / f"testlist0{number}.txt").write_text("Bowling/v_Bowling_g01_c01.avi\n")
    made = make_lists.from_official("ucf101", ucf, videos, number=2)
    assert [i.label for i in made.splits["train"] + made.splits["test"]] == [0, 1]
    ssv2 = tmp_path / "ssv2"
    ssv2.mkdir()
    shutil.copy(video, videos / "7.webm")
    prefix = "something-something-v2-"
    (ssv2 / f"{prefix}labels.json").write_text(json.dumps({"Holding something": "0"}))
    record = [{"id": "7", "template": "Holding [something]"}]
    for part in ("train", "validation"):
        (ssv2 / f"{prefix}{part}.json").write_text(json.dumps(record))
    made = make_lists.from_official("ssv2", ssv2, videos)
    assert made.splits["train"][0].path == f"{videos}/7.webm"
    with pytest.raises(UserError, match="none of the training videos exists"):
        empty = make_lists.from_official("ssv2", ssv2, tmp_path / "ucf")
        make_lists.write_lists(empty, tmp_path / "lists")
