"""Checkpoints as folders that all processes write, exact as single files."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from slowfast.engine.checkpoint import run_checkpoints
from slowfast.engine.launch import launch
from slowfast.engine.run import run_job
from slowfast.models.weights.read import read_checkpoint
from tests.engine.processes import assert_same_state, stats
from tests.engine.test_processes import finish, lists, start, state  # noqa: F401 - fixtures
from tests.engine.test_stops import RUN

FOLDER = {"TRAIN.CHECKPOINT_FORMAT": "distributed"}


@pytest.mark.parametrize("wait", [False, True])
def test_a_folder_holds_what_the_file_holds(make_cfg, tmp_path, wait):
    words = RUN | {"SOLVER.MAX_EPOCH": 2, "TEST.ENABLE": False}
    launch(make_cfg(words | {"OUTPUT_DIR": str(tmp_path / "file")}), run_job)
    extra = FOLDER | {"TRAIN.CHECKPOINT_ASYNC": not wait}
    launch(make_cfg(words | extra | {"OUTPUT_DIR": str(tmp_path / "folder")}), run_job)
    for name in ("checkpoint_epoch_00002", "checkpoint_best"):
        file = read_checkpoint(tmp_path / "file/checkpoints" / f"{name}.pyth")
        folder = read_checkpoint(tmp_path / "folder/checkpoints" / f"{name}.dcp")
        assert file.keys() == folder.keys()
        assert_same_state(file, folder)
    assert not list((tmp_path / "folder/checkpoints").glob(".*"))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_stop_and_go_on(start, strategy):
    """A signal to one rank: the rest of the run is that of single files, to the bit."""
    extra = {
        "UNIFORMER.DROP_DEPTH_RATE": 0.3,
        "TEST.ENABLE": False,
        "DIST.STRATEGY": strategy,
        "SOLVER.OPTIMIZING_METHOD": "adamw",
        "TRAIN.CHECKPOINT_STEPS": 1,
    }
    whole = finish(start("whole", 2, extra))
    runs = start("stopped", 2, extra | FOLDER)
    assert runs[0].wait_for(lambda: len(stats(runs[0].out, "train_iter")) >= 3)
    runs[1].signal(signal.SIGTERM)
    finish(runs, code=143)
    names = {path.name for path in (runs[0].out / "checkpoints").iterdir()}
    assert names and all(name.endswith(".dcp") for name in names)
    newest = run_checkpoints(runs[0].out)[0]
    assert {path.name for path in newest.iterdir()} == {
        ".metadata",
        "__0_0.distcp",
        "__1_0.distcp",
        "run.pyth",
    }
    out = finish(start("stopped", 2, extra | FOLDER))
    assert f"resuming from {newest}" in (out / "stdout.log").read_text()
    assert_same_state(state(whole), folder_state(out))
    # From a folder to single files, with the same processes.
    again = {"SOLVER.MAX_EPOCH": 3, "TRAIN.ALLOW_CHANGED_RESUME": True}
    finish(start("whole", 2, extra | again))
    out = finish(start("stopped", 2, extra | again))
    assert_same_state(state(whole, 3), state(out, 3))


def folder_state(out: Path, epoch: int = 2) -> dict:
    return read_checkpoint(out / "checkpoints" / f"checkpoint_epoch_{epoch:05d}.dcp")
