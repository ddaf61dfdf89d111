"""Videos with several labels: a run is killed, goes on, and reports mean average precision."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from slowfast.analysis.results import last_test, read_result
from slowfast.config.load import load_config
from slowfast.engine.launch import launch
from slowfast.engine.run import run_job
from slowfast.metrics.average_precision import mean_average_precision
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import UserError
from tests.conftest import TINY, words
from tests.engine.processes import Run, assert_same_state, kill_often, stats
from tests.several_labels import NAMES, VALUES, write_set


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    folder = write_set(tmp_path_factory.mktemp("charades"), {"train": 12, "val": 6})
    return (
        TINY
        | VALUES
        | {
            "DATA.PATH_TO_DATA_DIR": str(folder),
            "DATA.PATH_PREFIX": str(folder),
            "LOG_PERIOD": 1,
            "TRAIN.CHECKPOINT_STEPS": 1,
        }
    )


@pytest.fixture(scope="module")
def finished(values, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    launch(load_config(overrides=words(values | {"OUTPUT_DIR": str(out)})), run_job)
    return out


def test_lines_and_checkpoint(finished):
    train, val = stats(finished, "train_epoch"), stats(finished, "val_epoch")
    assert len(train) == len(val) == 2 and "top1_err" not in train[0]
    assert all(0 <= row["map"] <= 1 and row["videos"] == 6 for row in val)
    best = max(row["map"] for row in val)
    content = read_checkpoint(finished / "checkpoints" / "checkpoint_best.pyth")
    assert content["progress"]["best_score"] == pytest.approx(best, abs=1e-5)


def test_results(finished):
    """Six views of a video merged by their maximum; the figures follow from the scores."""
    test = last_test(finished)
    assert test.is_multi_label and test.facts["scores"]["kind"] == "independent"
    table = test.scores()
    assert table.labels.shape == table.scores.shape == (6, 4)
    assert table.method == "max" and table.views.tolist() == [6] * 6
    assert table.scores.min() > 0 and table.scores.max() < 1
    expected = mean_average_precision(table.scores.numpy(), table.labels.numpy())
    assert test.figures["map"] == pytest.approx(expected)
    (line,) = [row for row in stats(finished) if row.get("split") == "test_final"]
    assert float(line["map"]) == pytest.approx(expected, abs=1e-5) and line["videos"] == 6
    rows = list(csv.DictReader((test.path / "classes.csv").open()))
    assert [row["name"] for row in rows] == [*NAMES, ""]
    assert float(rows[-1]["average_precision"]) == pytest.approx(100 * expected, abs=0.01)
    assert sum(int(row["videos"]) for row in rows[:-1]) == int(table.labels.sum())
    first, *_, last = test.predictions()
    assert first["labels"] == " ".join(map(str, np.flatnonzero(table.labels[0])))
    assert last["labels"] == last["label_names"] == ""
    assert first["top1_name"] == NAMES[int(table.scores[0].argmax())]
    assert not (test.path / "confusion.csv").exists()
    with pytest.raises(UserError, match="no top-1 accuracy"):
        read_result(finished)


def test_killed_and_resumed_run_is_the_same(values, finished, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("NUM_GPUS: 0\n")
    out = tmp_path / "out"
    hits = kill_often(lambda: Run(config, values | {"OUTPUT_DIR": str(out)}), kills=2, seed=1)
    assert hits >= 1
    name = "checkpoints/checkpoint_epoch_00002.pyth"
    assert_same_state(read_checkpoint(finished / name), read_checkpoint(out / name))
    whole, resumed = (json.loads(json.dumps(last_test(path).figures)) for path in (finished, out))
    assert whole == resumed


def test_test_without_any_label_is_refused(values, tmp_path):
    folder = write_set(tmp_path / "set", {"train": 4, "val": 1})
    changed = {"DATA.PATH_TO_DATA_DIR": folder, "DATA.PATH_PREFIX": folder}
    changed |= {"SOLVER.MAX_EPOCH": 1, "OUTPUT_DIR": tmp_path / "out"}
    changed |= {"DATA.ALLOW_SINGLE_LABEL": True}
    with pytest.raises(UserError, match="none of the 1 videos has a label"):
        launch(load_config(overrides=words(values | changed)), run_job)
