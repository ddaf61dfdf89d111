"""Errors and warnings before a training begins."""

from __future__ import annotations

import pytest

from slowfast.datasets import checks
from slowfast.datasets.base import SampleKey
from slowfast.datasets.batch import BadItem
from slowfast.datasets.build import build_dataset
from slowfast.datasets.lists import Item, ItemList
from slowfast.datasets.loader import collate, construct_loader
from slowfast.engine.tasks import build_task
from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.runtime import Runtime


@pytest.fixture
def lists(tmp_path, shapes):
    """Writes ``split.csv``; gives the keys that read it."""

    def write(**splits):
        for split, rows in splits.items():
            text = "".join(f"{shapes}/{path} {label}\n" for path, label in rows)
            (tmp_path / f"{split}.csv").write_text(text)
        return {
            "TRAIN.DATASET": "kinetics",
            "TEST.DATASET": "kinetics",
            "DATA.PATH_TO_DATA_DIR": str(tmp_path),
        }

    return write


def rows(split: str, labels: list[int]) -> list[tuple[str, int]]:
    names = ("left", "right", "up", "down")
    return [(f"videos/{split}/{names[i % 4]}_{i // 4:04d}.mp4", n) for i, n in enumerate(labels)]


def test_a_single_label_is_refused(make_cfg, lists):
    words = lists(train=rows("train", [2] * 8), val=rows("val", [0] * 4))
    with pytest.raises(UserError, match="all 8 videos of .*train.csv have label 2"):
        build_dataset(make_cfg(words), "train")
    assert len(build_dataset(make_cfg(words), "val")) == 4  # so few may be of one class
    allowed = make_cfg(words | {"DATA.ALLOW_SINGLE_LABEL": True})
    assert len(build_dataset(allowed, "train")) == 8
    unlabelled = lists(test=rows("test", [0, 0, 0, 0, 0, 0, 0, 0] * 2)[:8] * 2)
    with pytest.raises(UserError, match="DATA.ALLOW_SINGLE_LABEL"):
        build_dataset(make_cfg(unlabelled), "test")


def test_classes_without_videos_are_named(make_cfg, lists, caplog, tmp_path):
    (tmp_path / "classes.txt").write_text("left\nright\nup\ndown\n")
    build_dataset(make_cfg(lists(train=rows("train", [0, 1, 0, 1]))), "train")
    (text,) = [record.getMessage() for record in caplog.records if record.name == checks.__name__]
    assert text.startswith("2 of 4 classes have no video") and "2 (up), 3 (down)" in text


def test_class_names_must_fit(make_cfg, lists, tmp_path):
    words = lists(train=rows("train", [0, 1, 2, 3]))
    (tmp_path / "classes.txt").write_text("left\nright\nup\n")
    with pytest.raises(UserError, match="MODEL.NUM_CLASSES: is 4, but .* has 3 class names"):
        build_dataset(make_cfg(words), "train")
    (tmp_path / "classes.txt").write_text("left\nright\nup\nleft\n")
    with pytest.raises(UserError, match="occur twice: 'left'"):
        build_dataset(make_cfg(words), "train")


def test_shared_videos_are_reported_before_training(make_cfg, lists, caplog, shapes):
    both = rows("train", [0, 1, 2, 3])
    words = lists(train=both, val=rows("val", [0, 1, 2, 3]), test=both[1:3])
    build_task(make_cfg(words), Runtime("cpu")).data.check()
    (text,) = caplog.messages
    assert text.startswith("2 of 2 videos of") and "test.csv are also trained on" in text
    one = ItemList([Item("a/../b.mp4", 0)], "one")
    assert checks.shared_videos(one, ItemList([Item("b.mp4", 0)], "other")) == ["b.mp4"]


def test_the_test_list_is_read_before_training(make_cfg, lists):
    words = lists(train=rows("train", [0, 1, 2, 3]), val=rows("val", [0, 1, 2, 3]))
    with pytest.raises(UserError, match="there is no file .*test.csv"):
        build_task(make_cfg(words), Runtime("cpu")).data.check()


# -- videos that cannot be read ------------------------------------------------------------------


@pytest.fixture
def broken(lists, tmp_path):
    """The second of four training videos is broken."""
    words = lists(train=rows("train", [0, 1, 2, 3]), val=rows("val", [0, 1, 2, 3]))
    text = (tmp_path / "train.csv").read_text().splitlines()
    (tmp_path / "bad.mp4").write_bytes(b"not a video")
    text[1] = f"{tmp_path}/bad.mp4 1"
    (tmp_path / "train.csv").write_text("\n".join(text) + "\n")
    return words


def test_replaced_videos_are_still_counted(make_cfg, broken):
    cfg = make_cfg(broken | {"DATA.ON_ERROR": "replace"})
    dataset = build_dataset(cfg, "train")
    first = [dataset[SampleKey(epoch, 1)] for epoch in range(4)]
    again = [build_dataset(cfg, "train")[SampleKey(epoch, 1)] for epoch in range(4)]
    for one, two in zip(first, again):
        assert one["index"] != 1 and one["label"] == one["index"] == two["index"]
        assert all(bad.path.endswith("bad.mp4") for bad in one["replaced"])
    assert len({s["index"] for s in first}) > 1  # not always the same one
    batch = collate([dataset[SampleKey(0, 0)], first[0]])
    assert batch.size == 2 and batch.bad == first[0]["replaced"]


def test_replacement_is_for_training_alone(make_cfg, broken, tmp_path):
    (tmp_path / "val.csv").write_text((tmp_path / "train.csv").read_text())
    dataset = build_dataset(make_cfg(broken | {"DATA.ON_ERROR": "replace"}), "val")
    assert isinstance(dataset[1], BadItem)


def test_nothing_readable_to_replace_with(make_cfg, broken, tmp_path):
    (tmp_path / "train.csv").write_text(f"{tmp_path}/bad.mp4 1\n{tmp_path}/bad.mp4 2\n")
    dataset = build_dataset(make_cfg(broken | {"DATA.ON_ERROR": "replace"}), "train")
    assert isinstance(dataset[0], BadItem)


def test_skip_and_raise(make_cfg, broken):
    bad = build_dataset(make_cfg(broken), "train")[1]
    assert isinstance(bad, BadItem) and bad.line == 2 and "readable video" in bad.cause
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        build_dataset(make_cfg(broken | {"DATA.ON_ERROR": "raise"}), "train")[1]


def test_too_short_is_unreadable(make_cfg, lists):
    words = lists(train=rows("train", [0, 1, 2, 3])) | {"DATA.MIN_FRAMES": 25}
    bad = build_dataset(make_cfg(words), "train")[0]
    assert isinstance(bad, BadItem) and bad.cause == "has 24 frames, DATA.MIN_FRAMES is 25"
    assert "video" in build_dataset(make_cfg(words | {"DATA.MIN_FRAMES": 24}), "train")[0]


def test_batches_of_a_loader_carry_them(make_cfg, broken):
    cfg = make_cfg(broken | {"TRAIN.BATCH_SIZE": 4})
    (batch,) = construct_loader(cfg, "train")
    assert batch.size == 3 and [b.line for b in batch.bad] == [2]
