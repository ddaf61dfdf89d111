"""Few-shot lists and the tasks drawn from them."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest

from slowfast.config.load import load_config
from slowfast.datasets import fewshot_lists
from slowfast.datasets.base import SampleKey
from slowfast.datasets.compositions import CLASSES, split_classes
from slowfast.datasets.episodes import (
    EpisodeDataset,
    FewShotClips,
    TaskSampler,
    collate_task,
    episode_lines,
)
from slowfast.utils.errors import UserError, VideoError
from tests.conftest import words


def configure(folder, **extra):
    options = {
        "NUM_GPUS": 0,
        "TASK": "fewshot",
        "DATA.PATH_TO_DATA_DIR": folder,
        "DATA.PATH_PREFIX": folder / "videos",
        "DATA.NUM_FRAMES": 4,
        "FEWSHOT.WAY": 3,
        "DATA.TRAIN_JITTER_SCALES": [32, 36],
        "DATA.TRAIN_CROP_SIZE": 32,
        "DATA.TEST_CROP_SIZE": 32,
        "DATA.RANDOM_FLIP": False,
    }
    return load_config(overrides=words(options | extra))


def episodes(cfg, split="train", count=20):
    return EpisodeDataset(cfg, FewShotClips(cfg, split), count)


def options(**values):
    return load_config(overrides=words({f"FEWSHOT.{k}": v for k, v in values.items()})).FEWSHOT


# -- the embedded set ------------------------------------------------------------------------------


def test_every_word_of_a_test_class_is_trained_on():
    split = split_classes()
    assert sorted(sum(split.values(), [])) == sorted(CLASSES) and len(CLASSES) == 36
    assert [len(split[s]) for s in ("train", "val", "test")] == [22, 6, 8]
    seen = {word for name in split["train"] for word in name.split()}
    assert {word for name in CLASSES for word in name.split()} == seen


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
    found = tuple(
        (len(fewshot_lists.class_names(f)), len(fewshot_lists.read_clip_list(f)))
        for f in files.values()
    )
    assert found == COUNTS[name]
    assert hashlib.sha256(files["test"].read_bytes()).hexdigest()[:16] == TEST_SUMS[name]
    fewshot_lists.check_disjoint(files)


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
    (tmp_path / "other" / "c_1.mp4").touch()  # twice: nobody knows which is meant
    assert fewshot_lists.ClipFinder(tmp_path).find("walk", "c 1") is None


def test_lines_without_a_class(tmp_path):
    (tmp_path / "test.txt").write_text("run/a\nwalk\n")
    with pytest.raises(UserError, match="is no class/video: 'walk'"):
        fewshot_lists.read_clip_list(tmp_path / "test.txt")


def test_absent_clips_are_counted_and_none_is_an_error(compositions, tmp_path, caplog):
    for split in ("train", "val", "test"):
        shutil.copy(compositions / f"{split}.txt", tmp_path)
    (tmp_path / "videos").mkdir()
    with pytest.raises(UserError, match="none of the 24 clips"):
        FewShotClips(configure(tmp_path), "test")
    (tmp_path / "videos").rmdir()
    shutil.copytree(compositions / "videos", tmp_path / "videos")
    name = split_classes()["test"][0]
    (tmp_path / "videos" / name / "0001.mp4").unlink()
    assert len(FewShotClips(configure(tmp_path), "test").items) == 23
    assert f"1 of 24 clips are not below {tmp_path / 'videos'}, e.g. {name}/0001" in caplog.text


def test_shared_classes_are_refused(tmp_path):
    for split, text in (("train", "run/a\nwalk/b\n"), ("test", "walk/c\n")):
        (tmp_path / f"{split}.txt").write_text(text)
    files = {split: tmp_path / f"{split}.txt" for split in ("train", "test")}
    with pytest.raises(UserError, match="1 classes are in train and test: 'walk'"):
        fewshot_lists.check_disjoint(files)


# -- tasks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose, queries", [("one", 2), ("all", 8)])
def test_tasks_are_as_described(whose, queries):
    labels = [label for label in range(6) for _ in range(7)]
    drawn = options(WAY=4, SHOT=3, QUERY_TEST=2, QUERY_CLASSES=whose)
    sampler = TaskSampler(labels, drawn, "test", seed=0)
    asked = set()
    for number in range(200):
        task = sampler.draw(number)
        assert len(set(task.classes)) == 4 and len(task.queries) == queries
        assert len(set(task.clips)) == len(task.clips) == 12 + queries
        for place, label in enumerate(task.classes):
            assert all(labels[clip] == label for clip in task.support[place])
        assert [labels[clip] for clip in task.queries] == task.query_classes
        assert len(set(task.labels)) == (1 if whose == "one" else 4)
        asked |= set(task.labels)
    assert asked == {0, 1, 2, 3}


def test_tasks_depend_on_seed_split_and_number_only():
    labels = [label for label in range(6) for _ in range(7)]
    drawn = options(WAY=3)
    one = TaskSampler(labels, drawn, "test", seed=0)
    two = TaskSampler(labels, drawn, "test", seed=0)
    tasks = [one.draw(n) for n in range(50)]
    assert [two.draw(n) for n in reversed(range(50))][::-1] == tasks
    assert len({tuple(t.clips) for t in tasks}) > 45
    for other in (TaskSampler(labels, drawn, "test", 1), TaskSampler(labels, drawn, "val", 0)):
        assert [other.draw(n) for n in range(50)] != tasks


@pytest.mark.parametrize(
    "values, message",
    [
        ({"WAY": 7}, "FEWSHOT.WAY: 7 classes a task, but the test list has clips of 6"),
        (
            {"SHOT": 5, "QUERY_TEST": 3, "WAY": 3},
            r"8 clips of a class \(5 shots and 3 queries\), but 6 classes",
        ),
    ],
)
def test_too_few(values, message):
    labels = [label for label in range(6) for _ in range(7)]
    with pytest.raises(UserError, match=message):
        TaskSampler(labels, options(**values), "test", seed=0)


def test_bad_clips_make_room_for_the_next(compositions):
    labels = [label for label in range(4) for _ in range(4)]
    sampler = TaskSampler(labels, options(WAY=3), "test", seed=0)
    plain = sampler.draw(5)
    bad = frozenset(plain.support[1])
    changed = sampler.draw(5, bad)
    assert changed.passed == plain.support[1]
    assert changed.classes == plain.classes and changed.support[0] == plain.support[0]
    assert changed.support[1] != plain.support[1] and not bad & set(changed.clips)
    with pytest.raises(VideoError, match="readable clips"):
        sampler.draw(5, frozenset(i for i, label in enumerate(labels) if label in plain.classes))


def test_samples_of_a_task(compositions):
    data = episodes(configure(compositions, **{"FEWSHOT.QUERY_CLASSES": "all"}))
    one = data[SampleKey(1, 3)]
    assert one["video"].shape == (6, 3, 4, 32, 32) and one["way"] == 3
    assert one["label"].tolist() == [0, 1, 2] and one["index"] == 23
    names = [path.split("/")[-2] for path in one["path"]]
    assert names[:3] == names[3:] == [data.clips.class_names[i] for i in one["global_label"]]
    again = episodes(configure(compositions, **{"FEWSHOT.QUERY_CLASSES": "all"}))[SampleKey(1, 3)]
    assert again["video"].equal(one["video"])
    assert not data[SampleKey(2, 3)]["video"].equal(one["video"])


def test_tests_repeat_their_tasks_and_frames(compositions):
    data = episodes(configure(compositions), "test")
    assert data[SampleKey(0, 4)]["video"].equal(data[SampleKey(1, 4)]["video"])
    drawn = episodes(configure(compositions, **{"FEWSHOT.TEST_JITTER": True}), "test")
    assert drawn[SampleKey(0, 4)]["path"] == data[SampleKey(0, 4)]["path"]


def test_an_unreadable_clip_is_replaced_and_named(compositions, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(compositions, folder)
    cfg = configure(folder)
    first = episodes(cfg, "test")[SampleKey(0, 0)]["path"][0]
    with open(first, "wb"):
        pass
    for start in (0, 7):  # whether the clip was met before or not
        data = episodes(cfg, "test")
        data[SampleKey(0, start)]
        batch = collate_task([data[SampleKey(0, 0)]])
        assert [item.path for item in batch["bad"]] == [first]
        assert first not in batch["path"] and len(batch["path"]) == 4
    with pytest.raises(VideoError):
        episodes(configure(folder, **{"DATA.ON_ERROR": "raise"}), "test")[SampleKey(0, 0)]


def test_tasks_can_be_listed(compositions):
    data = episodes(configure(compositions), "test")
    lines = [json.loads(line) for line in episode_lines(data.sampler, data.clips, 3)]
    sample = data[SampleKey(0, 2)]
    assert lines[2]["support"] + lines[2]["query"] == sample["path"]
    assert lines[2]["query_labels"] == sample["label"].tolist()


@pytest.mark.parametrize(
    "size, mean, std, first, inner",
    [
        ((240, 320), 0.500367, 0.245105, (177, 217, 158), (102, 142, 182)),
        ((256, 256), 0.500133, 0.289818, (164, 204, 244), (235, 19, 59)),
        ((360, 640), 0.500239, 0.173293, (134, 174, 214), (193, 168, 87)),
        ((128, 171), 0.501244, 0.258698, (202, 242, 26), (123, 163, 203)),
        ((320, 240), 0.500569, 0.245007, (98, 138, 178), (45, 55, 95)),
        ((241, 333), 0.500324, 0.244501, (219, 3, 43), (215, 21, 61)),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_pixels_are_those_of_the_release(compositions, size, mean, std, first, inner, split):
    """Resized by PIL, cropped in the centre: a made picture, published check values."""
    extra = {
        "DATA.ANTIALIAS": True,
        "DATA.TRAIN_CROP_PLACE": "centre",
        "DATA.TRAIN_JITTER_SCALES": [256, 256],
        "DATA.TRAIN_CROP_SIZE": 224,
        "DATA.TEST_CROP_SIZE": 224,
    }
    clips = FewShotClips(configure(compositions, **extra), split)
    y, x, c = np.meshgrid(*map(np.arange, (*size, 3)), indexing="ij")
    picture = ((3 * y + 5 * x + 40 * c + (x * y) // 7) % 256).astype(np.uint8)[None]
    if split == "train":
        video = clips._train(picture, np.random.default_rng(0))[0]
    else:
        video = clips._val([picture])[0]
    seen = video[:, 0].double() / 255  # C H W
    assert seen.mean().item() == pytest.approx(mean, abs=2e-4)
    assert seen.std(correction=0).item() == pytest.approx(std, abs=4e-4)
    for place, expected in (((0, 0), first), ((100, 50), inner)):
        assert np.abs(video[(slice(None), 0, *place)].int().numpy() - expected).max() <= 2
