"""Looking into lists of videos: bad ones, figures, duplicates, and going on after a stop."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from slowfast.datasets import probe
from slowfast.datasets.lists import Item, ItemList
from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.map import Where
from slowfast.video.source import Source
from slowfast.video.writer import write_mp4
from tests.conftest import noise_clip

ONE = Where(workers=1)


@pytest.fixture
def lists(tmp_path, video):
    """Two lists: a good video, a broken one, an absent one; a copy of the good one in the other."""
    shutil.copy(video, tmp_path / "good.mp4")
    shutil.copy(video, tmp_path / "copy.mp4")
    write_mp4(tmp_path / "short.mp4", noise_clip(9, 32, 48, seed=5), fps=30)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    one = [
        Item(str(tmp_path / f"{n}.mp4"), label, 0, line)
        for line, (n, label) in enumerate([("good", 0), ("bad", 1), ("absent", 1)], 1)
    ]
    two = [Item(str(tmp_path / "copy.mp4"), 0, 0, 1), Item(str(tmp_path / "short.mp4"), 1, 0, 2)]
    return {"train": ItemList(one, "train.csv"), "val": ItemList(two, "val.csv")}


def test_report(lists, tmp_path):
    report = probe.check_lists(lists, tmp_path / "out" / "journal.jsonl", where=ONE)
    assert [(i.line, c.split(":")[0]) for i, c in report.bad("train")] == [
        (2, "is not a readable video"),
        (3, "No such file or directory"),
    ]
    assert report.bad("val") == [] and not report.is_clean
    figures = report.summary()["lists"]
    assert figures["train"] | {"source": ""} == {
        "source": "",
        "videos": 3,
        "bad": 2,
        "classes": 2,
        "videos_per_class": {"min": 1, "median": 1.5, "max": 2},
        "frames": {"min": 50, "median": 50, "max": 50},
        "fps": {"min": 25, "median": 25, "max": 25},
        "seconds": {"min": 2, "median": 2, "max": 2},
        "short_side": {"min": 64, "median": 64, "max": 64},
    }
    assert figures["val"]["seconds"] == {"min": 0.3, "median": 1.15, "max": 2.0}
    (names,) = report.shared
    assert names == "train and val" and "good.mp4 = val:1" in report.shared[names][0]
    probe.write_report(report, tmp_path / "out")
    assert json.loads((tmp_path / "out/summary.json").read_text())["lists"]["train"]["bad"] == 2
    assert (tmp_path / "out/good_train.csv").read_text() == f"{tmp_path}/good.mp4 0\n"
    assert len((tmp_path / "out/bad_train.tsv").read_text().splitlines()) == 2


def test_twice_in_one_list(lists):
    items = lists["val"].items + [lists["train"].items[0]]
    report = probe.check_lists({"val": ItemList(items, "v")}, where=ONE)
    assert list(report.twice) == ["val"] and not report.shared and report.is_clean


def test_a_stopped_check_goes_on(lists, tmp_path, monkeypatch):
    journal = tmp_path / "journal.jsonl"
    probe.check_lists({"val": lists["val"]}, journal, where=ONE)
    lines = journal.read_text()
    probe.check_lists({"val": lists["val"]}, journal, where=ONE)
    assert journal.read_text() == lines
    # a file that was repaired is looked at again
    (tmp_path / "copy.mp4").write_bytes(b"x")
    report = probe.check_lists({"val": lists["val"]}, journal, where=ONE)
    assert len(report.bad("val")) == 1 and len(journal.read_text().splitlines()) == 1 + 2
    with pytest.raises(UserError, match="whole False, now True"):
        probe.check_lists({"val": lists["val"]}, journal, where=ONE, whole=True)
    probe.check_lists({"val": lists["val"]}, journal, where=replace(ONE, anew=True), whole=True)
    assert journal.read_text().count('"whole ') == 2


class Damaged(Source):
    """Frame 17 of 50 cannot be decoded."""

    path, num_frames, fps = "damaged.mp4", 50, 25.0

    def decode(self, indices, work):
        if 17 in indices:
            raise VideoError(self.path, "decoding failed")
        return {index: work(np.zeros((8, 12, 3), np.uint8)) for index in indices}


def test_the_whole_video_is_decoded_when_asked(video, monkeypatch):
    assert probe.probe_video(str(video), whole=True)["cause"] == ""
    monkeypatch.setattr(probe, "open_source", lambda path, template, **_: Damaged())
    assert probe.probe_video(str(video))["cause"] == ""
    assert probe.probe_video(str(video), whole=True)["cause"] == "decoding failed"


def test_frame_folders(tmp_path):
    import cv2

    folder = tmp_path / "v1"
    folder.mkdir()
    for n in (1, 2, 3):
        cv2.imwrite(str(folder / f"{n:05d}.jpg"), np.zeros((8, 12, 3), np.uint8))
    facts = probe.probe_video(str(folder))
    assert (facts["frames"], facts["height"], facts["width"]) == (3, 8, 12)
    (folder / "00003.jpg").write_bytes(b"no image")
    assert "00003.jpg" in probe.probe_video(str(folder))["cause"]


def test_lists_that_share_a_video_are_not_clean():
    assert probe.Report({}, {}).is_clean
    assert not probe.Report({}, {}, shared={"train, val": ["a.mp4"]}).is_clean
