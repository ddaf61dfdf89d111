"""Reading the folders of tests, and runs of older versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from slowfast.analysis.protocol import read_rows
from slowfast.analysis.results import (
    TestFolder,
    last_test,
    read_config,
    read_result,
    read_stats,
    tests_of,
)
from slowfast.engine.result_files import ScoreTable, write_recognition
from slowfast.utils.errors import RunFailure, UserError


def write_test(run: Path, name: str, started: str, **figures: float) -> Path:
    """The folder of a test of two videos and two classes."""
    folder = run / "tests" / name
    folder.mkdir(parents=True)
    scores, one = torch.tensor([[0.8, 0.2], [0.6, 0.4]]), torch.ones(2, dtype=torch.long)
    table = ScoreTable(["a", "b"], torch.tensor([0, 1]), scores, one, ["x", "y"], "sum", "softmax")
    write_recognition(table, folder)
    facts = {"started": started, "figures": figures, "classes": table.names}
    (folder / "test.json").write_text(json.dumps(facts | {"scores": table.facts()}))
    (folder / "config.yaml").write_text("MODEL:\n  NUM_CLASSES: 2\n")
    return folder


def test_a_folder_is_read_as_it_was_written(tmp_path):
    folder = write_test(tmp_path, "set-test-1x1", "2026-11-27T10:00:00", top1_acc=50.0)
    test = TestFolder.open(folder)
    assert test.name == "set-test-1x1" and test.figures == {"top1_acc": 50.0}
    assert [row["prediction_name"] for row in test.predictions()] == ["x", "x"]
    assert [row["accuracy"] for row in test.class_rows()] == ["100.00", "0.00"]
    assert test.class_means()["accuracy"] == "50.00" and not test.is_fewshot
    assert test.confusion().tolist() == [[1, 0], [1, 0]]
    table = test.scores()
    assert table.paths == ["a", "b"] and table.labels.tolist() == [0, 1]
    assert torch.allclose(table.probabilities().values[0], torch.tensor([0.8, 0.2]))
    assert test.config() == {"MODEL.NUM_CLASSES": 2}


def test_tests_of_a_run_stand_in_the_order_of_their_starts(tmp_path):
    write_test(tmp_path, "a", "2026-11-27T10:00:01", top1_acc=1.0)
    write_test(tmp_path, "b", "2026-11-27T10:00:00", top1_acc=2.0)
    (tmp_path / "tests" / "notes").mkdir()
    assert [test.name for test in tests_of(tmp_path)] == ["b", "a"]
    assert last_test(tmp_path).name == "a" and last_test(tmp_path / "tests" / "b").name == "b"
    assert tests_of(tmp_path / "none") == [] and last_test(tmp_path / "none") is None
    assert read_result(tmp_path) == {"top1": 1.0, "interval": 0.0}
    (row,) = read_rows([f"set={tmp_path},{tmp_path}/tests/b"])
    assert row.top1 == [1.0, 2.0]
    assert [file.parent.name for file in row.files] == ["a", "b"]


def test_runs_of_older_versions_have_their_result_in_the_log(tmp_path):
    lines = [
        {"_type": "test_final", "split": "test_final", "top1_acc": t} for t in ("1.00", "2.50")
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "stats.jsonl").write_text(text + '{"_type": "train')
    assert len(read_stats(tmp_path)) == 2
    assert read_result(tmp_path) == {"top1": 2.5, "interval": 0.0}
    with pytest.raises(RunFailure, match="holds no result of a test"):
        read_result(tmp_path / "none")


def test_what_is_no_folder_of_a_test_is_said(tmp_path):
    with pytest.raises(UserError, match="is not the folder of a test: it has no test.json"):
        TestFolder.open(tmp_path)
    folder = write_test(tmp_path, "a", "2026-11-27T10:00:00")
    (folder / "scores.npz").write_bytes((folder / "scores.npz").read_bytes()[:100])
    (folder / "classes.csv").unlink()
    test = TestFolder.open(folder)
    for read, name in ((test.scores, "scores.npz"), (test.class_rows, "classes.csv")):
        with pytest.raises(UserError, match=rf"{name} cannot be read"):
            read()
    (folder / "test.json").write_text("[1")
    with pytest.raises(UserError, match=r"test.json cannot be read"):
        tests_of(tmp_path)
    with pytest.raises(UserError, match=r"there is no .*config.yaml"):
        read_config(tmp_path)
