"""Few-shot lists: published ones, files in every layout, and what is refused."""

from __future__ import annotations

import hashlib
import shutil

import pytest

from slowfast.config.load import load_config
from slowfast.config.schema import all_keys
from slowfast.datasets import fewshot_lists
from slowfast.datasets.compositions import CLASSES, split_classes
from slowfast.utils.errors import UserError
from tests.conftest import words
from tests.fewshot import fewshot_cfg


def test_every_word_of_a_test_class_is_trained_on():
    split = split_classes()
    assert sorted(sum(split.values(), [])) == sorted(CLASSES) and len(CLASSES) == 36
    assert [len(split[s]) for s in ("train", "val", "test")] == [22, 6, 8]
    trained = {word for name in split["train"] for word in name.split()}
    assert {word for name in CLASSES for word in name.split()} == trained


# -- published lists -------------------------------------------------------------------------------

COUNTS = {
    "ucf101_arn": ((70, 9154), (10, 1421), (21, 2745)),
    "hmdb51_arn": ((31, 4280), (10, 1194), (10, 1292)),
    "ssv2_cmn": ((64, 6400), (12, 1200), (24, 2400)),
    "ssv2_otam": ((64, 67013), (12, 1926), (24, 2857)),
    "kinetics_cmn": ((64, 6400), (12, 1200), (24, 2400)),
}
TEST_SUMS = {
    "ucf101_arn": "0887937010eee99a",
    "hmdb51_arn": "e2ce039f857287cb",
    "ssv2_cmn": "4e8b9ae7446331c4",
    "ssv2_otam": "83a1ac8e7c6f720c",
    "kinetics_cmn": "9c2351cf070ad7d0",
}


@pytest.mark.parametrize("name", COUNTS)
def test_published_lists(name):
    cfg = load_config(overrides=words({"FEWSHOT.SPLIT": name}))
    files = {split: fewshot_lists.list_file(cfg, split) for split in fewshot_lists.SPLITS}
    counts = tuple(
        (len(fewshot_lists.class_names(f)), len(fewshot_lists.read_clip_list(f)))
        for f in files.values()
    )
    assert counts == COUNTS[name]
    assert hashlib.sha256(files["test"].read_bytes()).hexdigest()[:16] == TEST_SUMS[name]
    fewshot_lists.check_disjoint(files)


def test_every_published_list_can_be_chosen():
    folders = sorted(path.name for path in fewshot_lists.PUBLISHED.iterdir() if path.is_dir())
    assert folders == sorted(COUNTS)
    assert sorted(all_keys()["FEWSHOT.SPLIT"].choices) == ["", *folders]


def test_clips_are_found_in_every_layout(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.avi").touch()
    (tmp_path / "b.mp4").touch()
    (tmp_path / "some" / "where" / "c_1").mkdir(parents=True)
    (tmp_path / "some" / "where" / "c_1" / "00001.jpg").touch()
    finder = fewshot_lists.ClipFinder(tmp_path)
    assert finder.find("run", "a") == str(tmp_path / "run" / "a.avi")
    assert finder.find("run", "b") == str(tmp_path / "b.mp4")
    assert finder.find("walk", "c 1") == str(tmp_path / "some" / "where" / "c_1")
    assert finder.find("walk", "d") is None
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "c_1.mp4").touch()  # twice: ambiguous
    assert fewshot_lists.ClipFinder(tmp_path).find("walk", "c 1") is None


def test_lines_without_a_class(tmp_path):
    (tmp_path / "test.txt").write_text("run/a\nwalk\n")
    with pytest.raises(UserError, match="is not class/video: 'walk'"):
        fewshot_lists.read_clip_list(tmp_path / "test.txt")


def test_missing_clips_are_counted_and_none_is_an_error(compositions, tmp_path, caplog):
    for split in ("train", "val", "test"):
        shutil.copy(compositions / f"{split}.txt", tmp_path)
    (tmp_path / "videos").mkdir()
    with pytest.raises(UserError, match="none of the 24 clips"):
        fewshot_lists.read_clips(fewshot_cfg(tmp_path), "test")
    (tmp_path / "videos").rmdir()
    shutil.copytree(compositions / "videos", tmp_path / "videos")
    name = split_classes()["test"][0]
    (tmp_path / "videos" / name / "0001.mp4").unlink()
    assert len(fewshot_lists.read_clips(fewshot_cfg(tmp_path), "test").items) == 23
    assert f"1 of 24 clips are not below {tmp_path / 'videos'}, e.g. {name}/0001" in caplog.text


def test_shared_classes_are_refused(tmp_path):
    for split, text in (("train", "run/a\nwalk/b\n"), ("test", "walk/c\n")):
        (tmp_path / f"{split}.txt").write_text(text)
    files = {split: tmp_path / f"{split}.txt" for split in ("train", "test")}
    with pytest.raises(UserError, match="1 classes are in train and test: 'walk'"):
        fewshot_lists.check_disjoint(files)
