"""What stands on the page: numbers of the files, names as they are, pictures within their limits."""

from __future__ import annotations

import base64
import csv
import gzip
import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slowfast.analysis.report.details import fill_gallery, test_details
from slowfast.analysis.report.page import write_page
from slowfast.analysis.report.pictures import Budget, VideoPictures, draw_picture
from slowfast.analysis.report.runs import read_run
from slowfast.analysis.report.samples import mirror_pairs
from slowfast.analysis.report.settings import run_settings
from slowfast.utils.errors import UserError
from tests.analysis.report.folders import (
    write_episodes,
    write_history,
    write_several_labels,
    write_test,
)

NAMES = ["left", "right", "up", "down"]
LABELS = [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]
GUESSES = [0, 1, 1, 1, 0, 1, 2, 2, 3, 2]


class _Page(HTMLParser):
    """Tags with their attributes, and the visible text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self._hidden = 0
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag):
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._hidden:
            self.words.append(data)


def page_of(*runs: Path, **limits) -> tuple[str, _Page, dict]:
    """(source, parsed page, data of its scripts)."""
    out = runs[0].parent / "page.html"
    write_page(runs, out, limits)
    text = out.read_text(encoding="utf-8")
    packed = re.search(r'id="packed-data">([^<]*)<', text)[1]
    return text, _Page(text), json.loads(gzip.decompress(base64.b64decode(packed)))


def run_with_videos(folder: Path, shapes: Path) -> Path:
    """A run of the eight test videos of ``shapes``, of which two are wrong."""
    videos = sorted((shapes / "videos/test").glob("*.mp4"))
    labels = [NAMES.index(video.name.split("_")[0]) for video in videos]
    guesses = [labels[0], 1 - min(labels[1], 1), *labels[2:-1], 0]
    write_history(folder, [30, 70, 60])
    write_test(folder, NAMES, labels, guesses, [str(video) for video in videos])
    return folder


def test_numbers_are_those_of_the_files(tmp_path):
    write_history(tmp_path / "run", [30, 70, 60])
    test = write_test(tmp_path / "run", NAMES, LABELS, GUESSES)
    _, page, data = page_of(tmp_path / "run")
    assert "Accuracy 60.00 %" in page.text and "top-1 accuracy 70.00 % after epoch 2" in page.text
    assert "1 could not be read" in page.text and "Top-5" not in page.text
    assert re.search(r"Mean of the classes 62.50 % 95 % interval \d+", page.text)
    shown = data["tests"]["test0"]
    rows = list(csv.DictReader((test / "predictions.csv").open()))
    assert shown["guesses"] == [int(row["prediction"]) for row in rows]
    assert shown["scores"] == [round(float(row["probability"]), 4) for row in rows]
    assert [shown["prefix"] + path for path in shown["paths"]] == [row["path"] for row in rows]
    matrix = np.zeros((4, 4), int)
    matrix[tuple(shown["cells"][:2])] = shown["cells"][2]
    written = list(csv.reader((test / "confusion.csv").open()))[1:]
    assert matrix.tolist() == [[int(cell) for cell in row] for row in written]
    # Classes with the lowest accuracy first; pairs by their number.
    rows = [attrs for tag, attrs in page.tags if tag == "tr" and "data-label" in attrs]
    assert [row["data-label"] for row in rows if "data-guess" not in row] == ["0", "3", "1", "2"]
    assert "left right 2 66.67" in page.text
    assert {"loss", "accuracy", "rate", "test0-confusion"} <= data["plots"].keys()


@pytest.mark.parametrize(
    "paths, prefix",
    [
        (["/a/b/x.mp4", "/a/b/c/y.mp4"], "/a/b/"),
        (["/a/x.mp4", "b/y.mp4"], ""),
        (["set/left_1.mp4", "set/left_2.mp4"], "set/"),
        (["x.mp4", "x.mp4"], ""),
    ],
)
def test_what_paths_begin_with_is_stored_once(paths, prefix, tmp_path):
    write_test(tmp_path / "run", ["x", "y"], [0, 1], [0, 0], paths)
    shown = page_of(tmp_path / "run")[2]["tests"]["test0"]
    assert shown["prefix"] == prefix
    assert [prefix + path for path in shown["paths"]] == paths


def test_top5_of_more_than_five_classes(tmp_path):
    write_test(tmp_path / "run", [f"class {n}" for n in range(6)], LABELS, GUESSES)
    assert "Top-5 99.00 %" in page_of(tmp_path / "run")[1].text


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><b>bold",
    "{{ 7*7 }} ${x} 日本語 ünï",
]


def test_names_are_texts_whatever_they_hold(tmp_path):
    """Classes, paths, causes, messages, commands and keys are never part of the page's own code."""
    run = tmp_path / "<i>run"
    write_history(run, [50])
    paths = [f"/videos/{name}/{n}.mp4" for n, name in enumerate(HOSTILE * 3)][: len(LABELS)]
    write_test(run, HOSTILE, LABELS, GUESSES, paths, list="<u>list")
    (run / "bad_items.tsv").write_text("".join(f"<s>\t1\t{n}\t{n}\n" for n in HOSTILE))
    lines = [f"[01/02 03:04:05][WARNING] a.py: 1: {name}\n" for name in HOSTILE]
    (run / "stdout.log").write_text("".join(lines))
    start = {"event": "start", "command": HOSTILE, "directory": HOSTILE[0], "devices": HOSTILE}
    facts = {"processes": 1, "system": HOSTILE[1], "packages": {HOSTILE[0]: "1"}}
    facts |= {"python": "3", "slowfast": "1", "time": HOSTILE[0], "train": True, "test": False}
    (run / "launches.jsonl").write_text(json.dumps(start | facts | {"origins": {}}) + "\n")
    text, page, data = page_of(run)
    plain = page_of(_plain_run(tmp_path / "plain"))[1]
    expected = {tag for tag, _ in plain.tags} | {"details", "summary", "ul", "li", "b"}
    assert {tag for tag, _ in page.tags} <= expected
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    assert text.count("<script") == 3
    for name in HOSTILE:
        assert html.unescape(page.text).count(" ".join(name.split())) > 3
    assert data["tests"]["test0"]["names"] == HOSTILE


def _plain_run(run: Path) -> Path:
    write_history(run, [50])
    write_test(run, NAMES, LABELS, GUESSES)
    (run / "bad_items.tsv").write_text("list\t1\tvideo\tcause\n")
    return run


def test_nothing_is_fetched(tmp_path):
    _, page, _ = page_of(_plain_run(tmp_path / "run"))
    for _, attrs in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            assert str(attrs.get(name, "#")).startswith("#")


def test_pictures_are_the_videos(shapes, tmp_path):
    run = read_run(run_with_videos(tmp_path / "run", shapes))
    details = test_details(run.tests[0], "test0")
    pictures = VideoPictures(None, Path(), Budget(6, 1 << 20, 60))
    fill_gallery(details, pictures, 6)
    assert [item.is_wrong for item in details.wrong] == [True, True]
    predictions = run.tests[0].predictions
    sure = np.argsort(predictions.scores)
    wrong = {item.row for item in details.wrong}
    assert [i.row for i in details.uncertain] == [r for r in sure.tolist() if r not in wrong][:4]
    item = details.wrong[0]
    assert item.path == predictions.paths[item.row] and item.label == predictions.labels[item.row]
    image = Image.open(io.BytesIO(base64.b64decode(item.picture.uri.partition(",")[2])))
    assert image.size == (item.picture.width * item.picture.frames, item.picture.height)
    import cv2

    video = cv2.VideoCapture(item.path)
    frames = [frame[..., ::-1] for _ in range(24) if (frame := video.read()[1]) is not None]
    first = frames[int(0.5 * len(frames) / item.picture.frames)]
    shown = np.asarray(image)[:, : item.picture.width]
    first = cv2.resize(first, shown.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shown.astype(int) - first).mean() < 8


@pytest.mark.parametrize(
    "budget, reason",
    [
        (Budget(1, 1 << 20, 60), "REPORT.VIDEOS"),
        (Budget(9, 4000, 60), "REPORT.MEGABYTES"),
        (Budget(9, 1 << 20, 0), "REPORT.SECONDS"),
    ],
)
def test_pictures_stop_at_what_is_allowed(budget, reason, shapes, tmp_path):
    run = read_run(run_with_videos(tmp_path / "run", shapes))
    details = test_details(run.tests[0], "test0")
    pictures = VideoPictures(None, Path(), budget)
    fill_gallery(details, pictures, 9)
    assert len(details.wrong) + len(details.uncertain) <= 1
    assert reason in " ".join(budget.spent)


def test_videos_that_cannot_be_read_are_named(tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    paths = [str(broken), *(f"{tmp_path}/absent_{n}.mp4" for n in range(len(LABELS) - 1))]
    write_test(tmp_path / "run", NAMES, LABELS, GUESSES, paths)
    _, page, _ = page_of(tmp_path / "run")
    assert "10 videos could not be read for this page" in page.text
    assert f"{tmp_path}/absent_1.mp4 : No such file or directory" in page.text


def test_frames_of_any_size():
    frames = [np.full((700, 300, 3), n, np.uint8) for n in range(4)]
    tall = draw_picture(frames)
    assert (tall.frames, tall.width, tall.height) == (4, 48, 112)
    small = draw_picture([np.zeros((16, 8, 3), np.uint8)])
    assert (small.width, small.height, small.shown_width) == (8, 16, 48)
    mixed = draw_picture([np.zeros((40, 60, 3), np.uint8), np.zeros((60, 40, 3), np.uint8)])
    assert (mixed.width, mixed.height) == (60, 40)


def test_few_shot_page(tmp_path):
    write_episodes(tmp_path / "run", NAMES, [80.0, 60.0, 100.0, 80.0])
    _, page, data = page_of(tmp_path / "run")
    assert "Accuracy 80.00 % ± 13.86 (95 %) over 4 episodes" in page.text
    (bars,) = data["plots"]["test0-episodes"]["data"]
    assert page.text.index("left 10 10.00") < page.text.index("right 10 20.00")
    assert bars["type"] == "bar"


def test_page_of_several_labels(tmp_path):
    labels = [[1, 0, 1, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]]
    test = write_several_labels(tmp_path / "run", NAMES, labels)
    _, page, data = page_of(tmp_path / "run")
    assert "Mean average precision in % 62.50" in page.text and data["tests"] == {}
    rows = {row["name"]: row for row in csv.DictReader((test / "classes.csv").open())}
    for name in NAMES[:3]:
        assert f"{name} 2 {rows[name]['average_precision']}" in page.text
    assert "down 0" not in page.text


def test_run_without_a_test_and_folder_without_a_run(tmp_path):
    write_history(tmp_path / "run", [10, 20])
    assert "This run has no test yet" in page_of(tmp_path / "run")[1].text
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="RUN: .*empty holds no run"):
        write_page([tmp_path / "empty"], tmp_path / "page.html")


def test_settings_that_the_run_makes_come_first(tmp_path):
    write_test(tmp_path / "run", NAMES, LABELS, GUESSES)
    (tmp_path / "run/config.yaml").write_text("NUM_GPUS: 0\nLOG_PERIOD: 7\nRNG_SEED: 5\nTASK: ''\n")
    launch = {
        "event": "start",
        "train": True,
        "command": ["run_net.py", "--cfg", "configs/mine", "NUM_GPUS", "0"],
        "origins": {
            "NUM_GPUS": "command line",
            "LOG_PERIOD": "configs/mine.yaml:3",
            "RNG_SEED": "configs/base.yaml:1",
        },
    }
    (tmp_path / "run/launches.jsonl").write_text(json.dumps(launch) + "\n")
    sources = {s.key: (s.source, s.is_own) for s in run_settings(read_run(tmp_path / "run"))}
    assert sources == {
        "NUM_GPUS": ("command line", True),
        "LOG_PERIOD": ("recipe", True),
        "RNG_SEED": ("base", False),
        "TASK": ("default", False),
    }


def test_folders_whose_names_are_no_text(tmp_path):
    write_test(tmp_path / "run", NAMES, LABELS, GUESSES)
    launch = {"event": "start", "directory": "/gr\udcf6"}
    (tmp_path / "run/launches.jsonl").write_text(json.dumps(launch) + "\n")
    assert "/gr\\udcf6" in page_of(tmp_path / "run")[1].text


def test_mirror_pairs():
    names = ["Swiping Left", "clockwise", "still", "Swiping Right", "anticlockwise"]
    matrix = np.zeros((5, 5), int)
    matrix[0, 3], matrix[3, 0], matrix[1, 2] = 2, 3, 9
    pairs = [(pair.one, pair.other, pair.confused) for pair in mirror_pairs(names, matrix)]
    assert pairs == [("Swiping Left", "Swiping Right", 5)]


def test_page_is_not_written_over_what_it_reads(tmp_path):
    test = write_test(tmp_path / "run", NAMES, LABELS, GUESSES)
    for file in (test / "test.json", test / "predictions.csv"):
        before = file.read_bytes()
        with pytest.raises(UserError, match="it would be overwritten"):
            write_page([tmp_path / "run"], file)
        assert file.read_bytes() == before
    write_page([tmp_path / "run"], tmp_path / "run/report.html")
    write_page([tmp_path / "run"], tmp_path / "run/report.html")
