"""Comparison of two few-shot runs from what they left, also by older versions."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml

from slowfast.analysis.compare import compare_runs
from slowfast.utils.errors import UserError

SETTINGS = {"RNG_SEED": 1, "FEWSHOT": {"WAY": 5, "SHOT": 1}, "DATA": {"TEST_LIST": ""}}


def write_run(run: Path, accuracies: dict[int, float], old: str = "", number=1, **top) -> Path:
    """A run; an ``old`` one has its results beside its configuration."""
    folder = run if old else run / "tests" / f"set-test-{number}"
    folder.mkdir(parents=True)
    column = old or "episode"
    rows = [f"{column},accuracy"] + [f"{n},{a:.4f}" for n, a in accuracies.items()]
    (folder / f"{column}s.csv").write_text("\n".join(rows) + "\n")
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS | top))
    if not old:
        facts = {"started": f"2026-11-27T10:00:0{number}", "figures": {}}
        (folder / "test.json").write_text(json.dumps(facts))
    return run


@pytest.mark.parametrize("old", ["", "episode", "task"])
def test_paired_difference(tmp_path, old):
    a = write_run(tmp_path / "a", {0: 20.0, 1: 80.0, 2: 60.0}, old=old)
    b = write_run(tmp_path / "b", {2: 64.0, 1: 84.0, 0: 18.0})
    result = compare_runs(a, b)
    assert result.episodes == 3 and result.difference.mean == pytest.approx(2.0)
    assert result.difference.interval == pytest.approx(1.96 * math.sqrt(8) / math.sqrt(3))
    assert not result.differs


def test_the_last_test_counts_or_the_one_that_is_named(tmp_path):
    a = write_run(tmp_path / "a", {0: 20.0})
    write_run(a, {0: 30.0}, number=2)
    (a / "tasks.csv").write_text("task,accuracy\n0,70.0\n")
    b = write_run(tmp_path / "b", {0: 20.0})
    assert compare_runs(a, b).a.mean == 30.0
    assert compare_runs(a / "tests" / "set-test-1", b / "tests" / "set-test-1").a.mean == 20.0


def test_other_episodes_are_refused(tmp_path):
    a = write_run(tmp_path / "a", {0: 20.0, 1: 80.0})
    with pytest.raises(UserError, match="RNG_SEED: is 1 in"):
        compare_runs(a, write_run(tmp_path / "b", {0: 20.0, 1: 80.0}, RNG_SEED=2))
    with pytest.raises(UserError, match="FEWSHOT.TEST_EPISODES: .* holds 2 episodes, .* 1"):
        compare_runs(a, write_run(tmp_path / "c", {0: 20.0}))
    with pytest.raises(UserError, match=r"holds no episodes\.csv of a test"):
        compare_runs(a, tmp_path)
