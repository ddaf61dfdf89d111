"""Which runs a sweep makes, in parts, in other places and in an order; a script stands for a
training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slowfast.analysis.sweep.runs import _TESTED, Sweep, _places, parse_part
from slowfast.analysis.sweep.variants import SweepVariant
from slowfast.config.schema import keys_without_effect
from slowfast.utils.errors import RunFailure, UserError
from tests.conftest import TINY, words

# Writes a result; a run that starts from weights needs them to be there.
TRAINER = """
import json, sys, pathlib, time
words = sys.argv[1:]
out = pathlib.Path(words[words.index("OUTPUT_DIR") + 1])
if "TRAIN.CHECKPOINT_FILE_PATH" in words:
    assert pathlib.Path(words[words.index("TRAIN.CHECKPOINT_FILE_PATH") + 1]).is_file()
assert words[words.index("SOLVER.MAX_EPOCH") + 1] != "9"
time.sleep(0.2)
(out / "weights").write_text(words[words.index("SOLVER.BASE_LR") + 1])
print("a run")
row = {"_type": "test", "split": "test_final", "top1_acc": 50.0}
(out / "stats.jsonl").write_text(json.dumps(row) + "\\n")
"""
DATA = {"TRAIN.DATASET": "moving_shapes", "TEST.DATASET": "moving_shapes"}


@pytest.fixture
def make(tmp_path, shapes):
    """``make(folder, extra words)``: a sweep of two rows."""
    (tmp_path / "trainer.py").write_text(TRAINER)
    (tmp_path / "tiny.yaml").write_text("NUM_GPUS: 0\n")

    def build(folder: str, **extra: object) -> tuple[Sweep, list[SweepVariant]]:
        values = TINY | DATA | {"DATA.PATH_TO_DATA_DIR": shapes}
        values |= {key.replace("__", "."): value for key, value in extra.items()}
        program = [str(tmp_path / "trainer.py")]
        rows = [
            SweepVariant("first stage", tmp_path / "tiny.yaml"),
            SweepVariant(
                "second",
                tmp_path / "tiny.yaml",
                ("TRAIN.CHECKPOINT_FILE_PATH", "{out}/first_stage/seed_{seed}/weights"),
            ),
        ]
        return Sweep(program, tmp_path / folder, words(values)), rows

    return build


def times(sweep: Sweep) -> dict[str, int]:
    return {str(f): f.stat().st_mtime_ns for f in sweep.folder.rglob("console.txt")}


def test_a_row_waits_for_the_row_whose_weights_it_takes(make):
    sweep, rows = make("out")
    results = sweep.run(rows, [0, 1], jobs=4, threads=1)
    assert [row.top1 for row in results] == [[50.0, 50.0]] * 2


def test_parts_add_up(make):
    sweep, rows = make("out")
    assert sweep.run(rows[:1], [0, 1], 1, 1, part=(2, 2)) == []
    assert [path.name for path in sweep.folder.glob("*/*")] == ["seed_1"]
    before = times(sweep)
    assert [(row.name, row.seeds) for row in sweep.gather(rows, [0, 1])] == [("first stage", [1])]
    assert times(sweep) == before
    with pytest.raises(RunFailure, match="no run in .*out has finished"):
        sweep.gather(rows, [5])
    results = sweep.run(rows[:1], [0, 1], 1, 1)
    assert results[0].seeds == [0, 1] and before.items() < times(sweep).items()


def test_runs_of_another_machine_are_taken(make, shapes, tmp_path):
    """Moved to another folder, with the data elsewhere and other workers: nothing runs. Other
    data, or another setting, do run."""
    sweep, rows = make("out")
    sweep.run(rows, [0], 1, 1)
    sweep.folder.rename(tmp_path / "copied")
    (tmp_path / "link").symlink_to(shapes)
    elsewhere = {"DATA__PATH_TO_DATA_DIR": tmp_path / "link", "DATA_LOADER__NUM_WORKERS": 2}
    moved, rows = make("copied", **elsewhere)
    before = times(moved)
    assert moved.run(rows, [0], 1, 1)[0].top1 == [50.0]
    assert times(moved) == before
    file = moved.run_folder(rows[0], 0) / "sweep.json"
    facts = json.loads(file.read_text())
    del facts["settings"]["SOLVER.WARMUP_EPOCHS"]  # as if the key had not existed then
    file.write_text(json.dumps(facts | {"lists": facts["lists"] | {"train": "other clips"}}))
    moved.run(rows[:1], [0], 1, 1)
    assert times(moved) != before
    before = times(moved)
    file.write_text(json.dumps(facts))
    moved.run(rows[:1], [0], 1, 1)
    assert times(moved) == before
    changed, rows = make("copied", **elsewhere, SOLVER__BASE_LR=0.5)
    changed.run(rows[:1], [0], 1, 1)
    assert times(changed) != before


def test_failures_are_counted_and_named_and_nothing_starts_from_them(make):
    sweep, rows = make("out", SOLVER__MAX_EPOCH=9)
    with pytest.raises(RunFailure, match="2 of 2 runs failed: first stage, seed 0: exit code 1"):
        sweep.run(rows, [0], 1, 1)
    assert list(times(sweep)) == [str(sweep.run_folder(rows[0], 0) / "console.txt")]


def test_cpu_seconds_of_all_starts_are_added(make, tmp_path):
    """Of a start that was cut off they are unknown, and then those of the run are."""
    sweep, rows = make("out", SOLVER__MAX_EPOCH=9)
    for _ in range(2):
        with pytest.raises(RunFailure):
            sweep.run(rows[:1], [0], 1, 1)
    run = sweep.run_folder(rows[0], 0)
    failed = json.loads((run / "cpu_seconds.json").read_text())
    assert len(failed) == 2 and min(failed) > 0
    sweep, rows = make("out")
    (row,) = sweep.run(rows[:1], [0], 1, 1)
    assert row.cpu_seconds[0] > sum(failed) and row.seconds == row.cpu_seconds[0]

    sweep, rows = make("cut")
    run = sweep.run_folder(rows[0], 0)
    run.mkdir(parents=True)
    (run / "cpu_seconds.json").write_text("[3.0, null]")
    (row,) = sweep.run(rows[:1], [0], 1, 1)
    assert row.cpu_seconds == [None] and row.seconds is None
    sweep, rows = make("cut", SOLVER__BASE_LR=0.5)  # another run, from the beginning
    (row,) = sweep.run(rows[:1], [0], 1, 1)
    assert 0 < row.cpu_seconds[0] < 3


def test_a_row_is_repeated_when_the_weights_it_starts_from_have_changed(make):
    """Also by a sweep of the first row alone; and not when they are only not here."""
    sweep, rows = make("out")
    sweep.run(rows, [0], 1, 1)
    before = times(sweep)
    weights = sweep.run_folder(rows[0], 0) / "weights"
    weights.rename(weights.with_name("away"))
    assert [row.name for row in sweep.gather(rows, [0])] == ["first stage", "second"]
    weights.write_text("of another training")
    assert [row.name for row in sweep.gather(rows, [0])] == ["first stage"]
    sweep.run(rows, [0], 1, 1)
    after = times(sweep)
    assert [Path(file).parts[-3] for file in after if after[file] != before[file]] == ["second"]


def test_a_row_needs_the_row_before_it(make):
    """A part of a sweep without the run that it starts from is refused, unless that has finished."""
    sweep, rows = make("out")
    with pytest.raises(UserError, match="second, seed 0 starts from .*/first_stage/seed_0, which"):
        sweep.run(rows[1:], [0], 1, 1)
    assert times(sweep) == {}
    sweep.run(rows[:1], [0], 1, 1)
    assert sweep.run(rows[1:], [0], 1, 1)[0].top1 == [50.0]


def test_what_a_test_depends_on_is_compared_and_places_are_not():
    places = _places()
    assert {"DATA.PATH_PREFIX", "DATA_LOADER.NUM_WORKERS", "NUM_GPUS", "LOGGERS"} <= places
    compared = {
        "FEWSHOT.TEST_EPISODES",
        "TEST.NUM_ENSEMBLE_VIEWS",
        "TRAIN.ENABLE",
        "SOLVER.BASE_LR",
    }
    assert not places & compared
    assert keys_without_effect() >= _TESTED


def test_words_of_the_call_win(make, tmp_path):
    sweep, _ = make("out", SOLVER__MAX_EPOCH=3)
    row = SweepVariant("row", tmp_path / "tiny.yaml", ("SOLVER.MAX_EPOCH", "9"))
    cfg = sweep.config(row, 7)
    assert (cfg.SOLVER.MAX_EPOCH, cfg.RNG_SEED) == (3, 7)


def test_parts_are_checked():
    assert parse_part("2/3") == (2, 3)
    for text in ("0/2", "3/2", "1", "a/b", "1/2/3"):
        with pytest.raises(UserError, match="is no part"):
            parse_part(text)
