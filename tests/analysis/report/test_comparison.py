"""Runs side by side: paired on the same list, differences of classes and keys, zero-shot figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from slowfast.analysis.report.comparison import entries_of, open_summary, pairings, run_names
from slowfast.analysis.report.runs import read_run
from slowfast.analysis.report.statistics import mcnemar
from tests.analysis.report.folders import write_episodes, write_history, write_test
from tests.analysis.report.test_page import GUESSES, LABELS, NAMES, page_of


def entries(*folders: Path):
    return entries_of([read_run(folder) for folder in folders], run_names(folders))


def test_names_tell_folders_apart(tmp_path):
    assert run_names(["output/a", "output/b"]) == ["a", "b"]
    assert run_names(["x/run", "y/run"]) == ["x/run", "y/run"]
    assert run_names(["x/run", "x/run"]) == ["run (1)", "run (2)"]


def test_pairs_on_the_same_list(tmp_path):
    write_test(tmp_path / "a", NAMES, LABELS, GUESSES)
    write_test(tmp_path / "b", NAMES, LABELS, LABELS)
    write_test(tmp_path / "other", NAMES, LABELS, LABELS, fingerprint="another list")
    (pair,) = pairings(entries(tmp_path / "a", tmp_path / "b", tmp_path / "other"))
    assert (pair.a, pair.b, pair.count) == ("a", "b", 10)
    assert (pair.videos.only_a, pair.videos.only_b) == (0, 4)
    assert pair.videos.difference.value == pytest.approx(40) and pair.videos.p_value == mcnemar(
        0, 4
    )
    rows = [(row.name, row.count, round(row.difference, 2)) for row in pair.classes]
    assert rows == [("left", 3, 66.67), ("down", 2, 50.0), ("right", 3, 33.33)]


def test_videos_are_paired_by_path(tmp_path):
    """A video that one run could not read is left out; the order does not matter."""
    paths = [f"/videos/{n}.mp4" for n in range(10)]
    write_test(tmp_path / "a", NAMES, LABELS, GUESSES, paths)
    kept = [9, 3, 4, 5, 0]
    args = ([LABELS[i] for i in kept], [LABELS[i] for i in kept], [paths[i] for i in kept])
    write_test(tmp_path / "b", NAMES, *args)
    (pair,) = pairings(entries(tmp_path / "a", tmp_path / "b"))
    assert (pair.count, pair.videos.only_a, pair.videos.only_b) == (5, 0, 2)


def test_episodes_are_paired(tmp_path):
    write_episodes(tmp_path / "a", NAMES, [80, 60, 100, 80])
    write_episodes(tmp_path / "b", NAMES, [90, 70, 100, 100])
    (pair,) = pairings(entries(tmp_path / "a", tmp_path / "b"))
    assert pair.episodes.mean == pytest.approx(10)
    assert pair.episodes.interval == pytest.approx(1.96 * 50**0.5 / 2)
    write_episodes(tmp_path / "c", NAMES, [90, 70, 100])
    assert len(pairings(entries(tmp_path / "a", tmp_path / "c"))) == 0


def zero_shot(folder: Path, names: list[str], trained: list[str], right: int, source: str) -> Path:
    labels = [n % len(names) for n in range(10)]
    guesses = labels[:right] + [(label + 1) % len(names) for label in labels[right:]]
    checkpoint = {"path": "x.pyth", "epoch": 1, "sha256": "0", "classes": trained}
    facts = {"list": source, "checkpoint": checkpoint, "fingerprint": source}
    write_test(folder, names, labels, guesses, **facts)
    (folder / "config.yaml").write_text("MODEL: {MODEL_NAME: TemporalClipVideo}\n")
    return folder


def test_zero_shot_seen_and_unseen(tmp_path):
    seen = zero_shot(tmp_path / "seen", ["A run", "b"], ["a run", "b", "c"], 8, "l/base/val.csv")
    unseen = zero_shot(tmp_path / "unseen", ["d", "e"], ["a run", "b", "c"], 4, "l/novel/test.csv")
    summary = open_summary(entries(seen, unseen))
    assert [(t.kind, round(t.top1)) for t in summary.tests] == [("seen", 80), ("unseen", 40)]
    assert summary.harmonic == pytest.approx(2 * 80 * 40 / 120)
    _, page, _ = page_of(seen, unseen)
    assert "Harmonic mean of seen and unseen classes: 53.33 %" in page.text


def test_zero_shot_splits(tmp_path):
    folders = [
        zero_shot(tmp_path / f"s{n}", ["d", "e"], [], right, f"lists/ucf101_split{n}/test.csv")
        for n, right in ((1, 6), (2, 8), (3, 7))
    ]
    summary = open_summary(entries(*folders))
    assert {test.kind for test in summary.tests} == {"unknown"} and summary.harmonic is None
    (row,) = summary.splits
    assert (row.name, str(row)) == ("ucf101_split", "70.00 ± 10.00")
    write_test(tmp_path / "plain", NAMES, LABELS, GUESSES)
    assert open_summary(entries(tmp_path / "plain")) is None


def test_page_of_a_comparison(tmp_path):
    for name, guesses, period in (("a", GUESSES, 5), ("<b>b", LABELS, 6)):
        write_history(tmp_path / name, [20, 40])
        write_test(tmp_path / name, NAMES, LABELS, guesses)
        (tmp_path / name / "config.yaml").write_text(f"LOG_PERIOD: {period}\nNUM_GPUS: 0\n")
    _, page, data = page_of(tmp_path / "a", tmp_path / "<b>b")
    assert "<b>b" in page.text and not [tag for tag, _ in page.tags if tag == "b"]
    assert "+40.00" in page.text and "LOG_PERIOD 5 6" in page.text
    assert "NUM_GPUS" not in page.text
    names = [trace["name"] for trace in data["plots"]["loss"]["data"]]
    assert names == ["a, training", "&lt;b&gt;b, training"]
