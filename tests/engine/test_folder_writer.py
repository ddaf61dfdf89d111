"""Checkpoints as folders that all processes write, exact as single files."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest
import torch

import slowfast
from slowfast.analysis.averaging import average, find_epochs
from slowfast.analysis.results import tests_of
from slowfast.engine import folder_writer
from slowfast.engine.checkpoint import run_checkpoints
from slowfast.engine.launch import launch
from slowfast.engine.run import run_job
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils import remote
from slowfast.utils.runtime import Runtime
from tests.engine.processes import assert_same_state, stats
from tests.engine.test_processes import finish, rank_starter, state, write_lists
from tests.engine.test_stops import EPOCHS, RUN, final, starter

FOLDER = {"TRAIN.CHECKPOINT_FORMAT": "distributed"}


@pytest.fixture
def start_run(tmp_path, shapes):
    """One process of the run of the tests of stops."""
    return starter(tmp_path, shapes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, shapes):
    """That run, with single files, which nobody disturbs."""
    run = starter(tmp_path_factory.mktemp("whole"), shapes)("whole")
    assert run.wait(240) == 0, run.console
    return run


@pytest.fixture
def start(tmp_path, shapes):
    """Several processes."""
    return rank_starter(tmp_path, write_lists(tmp_path, shapes))


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


def test_killed_while_it_is_written(start_run, whole):
    """SIGKILL while a folder is on its way: the one before it is used, nothing of it is left."""
    run = start_run("killed", FOLDER)
    folder = run.out / "checkpoints"

    def is_written() -> bool:
        return len(run_checkpoints(run.out)) >= 2 and bool(unfinished(folder))

    assert run.wait_for(is_written)
    run.signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    left = unfinished(folder)
    newest = run_checkpoints(run.out)[0]
    run = start_run("killed", FOLDER)
    assert run.wait(240) == 0, run.console[-3000:]
    assert f"resuming from {newest}" in run.console and "skipping" not in run.console
    assert not any(path.exists() for path in left) and not unfinished(folder)
    assert_same_state(final(whole), folder_state(run.out, EPOCHS))


def unfinished(folder: Path) -> list[Path]:
    return list(folder.glob(".*.tmp"))


def test_a_damaged_or_incomplete_folder_is_passed_over(start_run, whole):
    extra = FOLDER | {"TRAIN.KEEP_CHECKPOINTS": 0, "TRAIN.CHECKPOINT_PERIOD": 1}
    run = start_run("damaged", extra)
    assert run.wait_for(lambda: len(run_checkpoints(run.out)) >= 4)
    run.signal(signal.SIGTERM)
    assert run.wait() == 143
    newest, second, third, *_ = run_checkpoints(run.out)
    (newest / "run.pyth").unlink()
    data = next(second.glob("*.distcp"))
    data.write_bytes(data.read_bytes()[:-1000])
    again = start_run("damaged", extra)
    assert again.wait(240) == 0, again.console[-3000:]
    assert f"skipping a damaged checkpoint: {newest} cannot be read" in again.console
    assert "incomplete: there is no run.pyth" in again.console
    assert f"{data.name} is not the one that was written" in again.console
    assert f"resuming from {third}" in again.console
    assert_same_state(final(whole), folder_state(again.out, EPOCHS))


def test_a_full_disk_is_said(start_run, whole):
    """A limit on the size of files stands for a disk that fills up in the background."""
    run = start_run("full", FOLDER)
    assert run.wait_for(lambda: len(run_checkpoints(run.out)) >= 2)
    run.signal(signal.SIGTERM)
    assert run.wait() == 143
    before = run_checkpoints(run.out)
    starved = start_run("full", FOLDER, largest_file=100_000)
    assert starved.wait() == 1
    assert "cannot write" in starved.console and "File too large" in starved.console
    assert "Traceback" not in starved.console
    assert run_checkpoints(run.out) == before and not unfinished(run.out / "checkpoints")


def test_what_reads_checkpoints_reads_folders(make_cfg, tmp_path, video):
    """Tests, initial weights, averages and slowfast.load take a folder as they take a file."""
    base = {"SOLVER.MAX_EPOCH": 2, "TRAIN.EVAL_PERIOD": 1, "DATA.CLASS_NAMES": list("abcd")}
    results = []
    for form in ("file", "distributed"):
        out = tmp_path / form
        launch(make_cfg(base | {"OUTPUT_DIR": str(out), "TRAIN.CHECKPOINT_FORMAT": form}), run_job)
        (test,) = tests_of(out)
        results.append([row.get("top1") for row in test.predictions()])
    assert [len(rows) for rows in results] == [8, 8]
    folder = tmp_path / "distributed/checkpoints/checkpoint_epoch_00002.dcp"
    file = tmp_path / "file/checkpoints/checkpoint_epoch_00002.pyth"
    ours, theirs = (slowfast.load(path).predict(video) for path in (folder, file))
    assert ours.scores.tolist() == theirs.scores.tolist()
    start_from = {
        "TRAIN.CHECKPOINT_FILE_PATH": str(folder),
        "OUTPUT_DIR": str(tmp_path / "next"),
        "SOLVER.MAX_EPOCH": 1,
        "TEST.CHECKPOINT_FILE_PATH": str(folder),
    }
    launch(make_cfg(base | start_from), run_job)
    averaged = [
        average(find_epochs(tmp_path / form, 1, 2, ""), [0.5, 0.5], tmp_path / f"{form}.pyth")
        for form in ("file", "distributed")
    ]
    assert averaged[0]["tensors"] == averaged[1]["tensors"]
    a, b = (read_checkpoint(tmp_path / f"{f}.pyth")["model_state"] for f in ("file", "distributed"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_mirror_holds_whole_folders(make_cfg, storage, tmp_path):
    """The head of a folder is copied last; a folder without it is passed over elsewhere."""
    address = "s3://videos/runs/folders"
    words = FOLDER | {"OUTPUT_MIRROR": address, "TEST.ENABLE": False}
    launch(make_cfg(words | {"OUTPUT_DIR": str(tmp_path / "first")}), run_job)
    names = remote.names_below(address)
    last = "checkpoints/checkpoint_epoch_00002.dcp"
    assert {f"{last}/{name}" for name in (".metadata", "__0_0.distcp", "run.pyth")} <= names.keys()
    puts = [path for method, path, *_ in storage.requests if method == "PUT" and last in path]
    assert "run.pyth" in puts[-1]
    remote.remove(f"{address}/{last}/run.pyth")  # as if the machine had been lost in between
    launch(make_cfg(words | {"OUTPUT_DIR": str(tmp_path / "second")}), run_job)
    log = (tmp_path / "second/stdout.log").read_text()
    assert "incomplete: there is no run.pyth" in log
    assert "resuming from" in log and "checkpoint_epoch_00001.dcp" in log
    states = [folder_state(tmp_path / name)["model_state"] for name in ("first", "second")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_failure_is_said_where_the_run_ends_with_another_error(tmp_path, monkeypatch, caplog):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder_writer, "write_archive", full)
    writer = folder_writer.FolderWriter(Runtime(torch.device("cpu")), 5.0, lambda _: None)
    writer.begin([tmp_path / "a.dcp"], {"model_state": {"a": torch.ones(2)}}, copied=True)
    with caplog.at_level("ERROR"):
        writer.close()
    assert "checkpoint was not written" in caplog.text and "No space left" in caplog.text
    assert not (tmp_path / "a.dcp").exists()
