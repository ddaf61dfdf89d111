"""Confusion matrices of rows, over the runs of all seeds."""

from __future__ import annotations

import json

import cv2
import numpy as np

from slowfast.analysis.sweep.confusion import Confusion, read_confusion, write_confusions


def make_run(folder, counts, names=("a", "b")) -> None:
    test = folder / "tests" / "x-test-1x1"
    test.mkdir(parents=True)
    facts = {"classes": list(names), "started": "2026-01-01T00:00:00"}
    (test / "test.json").write_text(json.dumps(facts))
    lines = ["class," + ",".join(names)]
    (test / "confusion.csv").write_text(
        "\n".join([*lines, *(",".join(map(str, r)) for r in counts)])
    )


def test_seeds_are_added(tmp_path):
    make_run(tmp_path / "0", [[3, 1], [0, 4]])
    make_run(tmp_path / "1", [[2, 2], [0, 4]])
    found = read_confusion("net", [tmp_path / "0", tmp_path / "1"])
    assert found.classes == ["a", "b"] and found.counts.tolist() == [[5, 3], [0, 8]]
    write_confusions([found], tmp_path)
    assert cv2.imread(str(tmp_path / "confusion.png")).std() > 5
    write_confusions([found, Confusion("other", ["a", "b"], np.eye(2, dtype=int))], tmp_path)
    lines = (tmp_path / "confusion.csv").read_text().splitlines()
    assert lines[:4] == ["variant,class,predicted,videos", "net,a,a,5", "net,a,b,3", "net,b,b,8"]
    assert len(lines) == 6 and cv2.imread(str(tmp_path / "confusion.png")).std() > 5


def test_rows_without_a_matrix_that_can_be_shown(tmp_path):
    assert read_confusion("net", [tmp_path]) is None
    make_run(tmp_path / "many", [[0] * 40] * 40, [f"class {n}" for n in range(40)])
    assert read_confusion("net", [tmp_path / "many"]) is None
    make_run(tmp_path / "few", [[1, 0], [0, 1]])
    (tmp_path / "few/tests/x-test-1x1/episodes.csv").write_text("")
    assert read_confusion("net", [tmp_path / "few"]) is None
