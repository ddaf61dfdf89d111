"""Checkpoints as folders that all processes write, exact as single files."""

from __future__ import annotations

import pytest

from slowfast.engine.launch import launch
from slowfast.engine.run import run_job
from slowfast.models.weights.read import read_checkpoint
from tests.engine.processes import assert_same_state
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
