"""launches.jsonl: how each start of a run ended, and what it ran on."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from slowfast.engine.launches import read_launches, recorded_launch
from slowfast.utils.errors import Interrupted, UserError
from slowfast.utils.runtime import Runtime

CPU = Runtime(torch.device("cpu"))


@pytest.fixture
def cfg(make_cfg):
    cfg = make_cfg({"RNG_SEED": 5})
    Path(cfg.OUTPUT_DIR).mkdir()
    return cfg


def test_facts_of_a_start(cfg, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/some/where/run_net.py", "--cfg", "a.yaml", "RNG_SEED", "5"])
    with recorded_launch(cfg, CPU):
        (running,) = read_launches(cfg.OUTPUT_DIR)
        assert running["outcome"] == "" and running["seconds"] is None
    (launch,) = read_launches(cfg.OUTPUT_DIR)
    assert launch["command"] == ["run_net.py", "--cfg", "a.yaml", "RNG_SEED", "5"]
    assert launch["directory"] == os.getcwd() and launch["train"] and launch["test"]
    assert launch["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert launch["devices"][0].startswith("CPU, ") and launch["processes"] == 1
    assert launch["origins"]["RNG_SEED"] == "command line"
    assert "TRAIN.ENABLE" not in launch["origins"]  # a default
    assert launch["outcome"] == "finished" and launch["seconds"] >= 0


@pytest.mark.parametrize(
    "error, outcome",
    [
        (Interrupted(15), "stopped"),
        (KeyboardInterrupt(), "stopped"),
        (UserError("no videos", "get some", "KEY"), "failed: 'KEY: no videos"),
        (RuntimeError("x" * 999), "failed: xxx"),
    ],
)
def test_ends(error, outcome, cfg):
    with pytest.raises(type(error)), recorded_launch(cfg, CPU):
        raise error
    with recorded_launch(cfg, CPU):
        pass
    first, second = read_launches(cfg.OUTPUT_DIR)
    assert first["outcome"].startswith(outcome) and len(first["outcome"]) < 300
    assert second["outcome"] == "finished"


def test_killed_runs_and_damaged_lines(tmp_path):
    lines = [
        json.dumps({"event": "end", "outcome": "finished"}),  # of a line that was lost
        json.dumps({"event": "start", "time": "1"}),
        json.dumps({"event": "start", "time": "2"}),
        '{"event": "sta',
        "[1]",
        json.dumps({"event": "end", "time": "3", "outcome": "finished", "seconds": 1.5}),
    ]
    (tmp_path / "launches.jsonl").write_text("\n".join(lines))
    found = [(x["time"], x["outcome"], x["seconds"], x["end"]) for x in read_launches(tmp_path)]
    assert found == [("1", "", None, None), ("2", "finished", 1.5, "3")]
    assert read_launches(tmp_path / "absent") == []


def test_a_folder_that_has_gone_does_not_hide_the_error(cfg):
    with pytest.raises(RuntimeError, match="the cause"), recorded_launch(cfg, CPU):
        (Path(cfg.OUTPUT_DIR) / "launches.jsonl").unlink()
        Path(cfg.OUTPUT_DIR).rmdir()
        raise RuntimeError("the cause")
