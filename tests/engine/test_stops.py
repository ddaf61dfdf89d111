"""Runs that are killed, stopped, starved of disk space, and go on as if nothing had happened."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from slowfast.engine import train
from slowfast.engine.launch import launch
from slowfast.engine.run import run_job
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import Interrupted
from tests.conftest import TINY
from tests.engine.processes import Run, assert_same_state, kill_often, stats

# Everything that has a state: dropped paths, mixup, average, accumulation with a short last group.
RUN = {
    "AUG.ENABLE": True,
    "AUG.NUM_SAMPLE": 2,
    "MIXUP.ENABLE": True,
    "EMA.ENABLE": True,
    "MODEL.LOSS_FUNC": "soft_cross_entropy",
    "SOLVER.ACCUM_STEPS": 3,
    "TRAIN.BATCH_SIZE": 1,
    "UNIFORMER.DROP_DEPTH_RATE": 0.3,
    "SOLVER.MAX_EPOCH": 8,
    "TEST.ENABLE": False,
    "LOG_PERIOD": 1,
    "TRAIN.CHECKPOINT_STEPS": 2,
    "TRAIN.CHECKPOINT_PERIOD": 2,
    "BN.USE_PRECISE_STATS": True,
    "BN.NUM_BATCHES_PRECISE": 3,
    "TRAIN.KEEP_CHECKPOINTS": 2,
}


EPOCHS = RUN["SOLVER.MAX_EPOCH"]


def starter(folder: Path, shapes: Path):
    """``start("name", {"KEY": value})`` -> a running process with its own OUTPUT_DIR."""
    config = folder / "run.yaml"
    config.write_text("NUM_GPUS: 0\n")
    data = {
        "TRAIN.DATASET": "moving_shapes",
        "TEST.DATASET": "moving_shapes",
        "DATA.PATH_TO_DATA_DIR": str(shapes),
    }

    def begin(name: str, extra: dict | None = None, **how) -> Run:
        values = TINY | RUN | data | (extra or {}) | {"OUTPUT_DIR": str(folder / name)}
        return Run(config, values, **how)

    return begin


@pytest.fixture
def start(tmp_path, shapes):
    return starter(tmp_path, shapes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, shapes):
    """The run that nobody disturbs."""
    run = starter(tmp_path_factory.mktemp("whole"), shapes)("whole")
    assert run.wait() == 0, run.console
    return run


def final(run: Run) -> dict:
    return read_checkpoint(run.out / "checkpoints" / f"checkpoint_epoch_{EPOCHS:05d}.pyth")


@pytest.mark.parametrize("workers, kills", [(0, 8), (1, 4)])
def test_killed_at_random_iterations(start, whole, workers, kills):
    extra = {"DATA_LOADER.NUM_WORKERS": workers}
    hits = kill_often(lambda: start("killed", extra), kills, seed=workers)
    assert hits >= kills // 4  # on a slow machine the rest may have ended before
    killed = start("killed", extra)
    killed.wait()
    assert_same_state(final(whole), final(killed))
    # The epoch lines are those of the undisturbed run, too: meters go on where they were.
    for kind in ("train_epoch", "val_epoch"):
        assert figures(whole, kind) == figures(killed, kind)


def figures(run: Run, kind: str) -> dict:
    """The last line of each epoch, without times and memory."""
    noise = (
        "RAM",
        "gpu_mem",
        "dt",
        "dt_data",
        "dt_net",
        "wait",
        "clips_per_second",
        "time_diff",
        "eta",
    )
    rows = {row["epoch"]: row for row in stats(run.out, kind)}
    return {e: {k: v for k, v in row.items() if k not in noise} for e, row in rows.items()}


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_exits(start, whole, number, code):
    """SIGTERM and SIGINT, during steps and during validation, with no other checkpoint inside."""
    extra = {"TRAIN.CHECKPOINT_STEPS": 0, "DATA_LOADER.NUM_WORKERS": 0}
    for kind, count in (("train_iter", 9), ("train_epoch", 3), ("val_epoch", 4)):
        run = start("stopped", extra)
        assert run.wait_for(lambda: len(stats(run.out, kind)) >= count)
        run.signal(number)
        assert run.wait() == code, run.console
        assert f"stopped by {number.name}; " in run.console
        assert "repeat the same command" in run.console and "Traceback" not in run.console
        newest = max((run.out / "checkpoints").glob("*_iter_*"), key=lambda p: p.stat().st_mtime)
        assert str(newest) in run.console
    run = start("stopped", extra)
    assert run.wait() == 0, run.console
    assert_same_state(final(whole), final(run))
    for kind in ("train_epoch", "val_epoch"):  # each epoch is told of once
        assert len(stats(run.out, kind)) == EPOCHS


def test_a_stopped_validation_leaves_no_trace(make_cfg, tmp_path, monkeypatch):
    """Precise statistics, which came before it, have changed buffers and drawn random numbers."""
    words = RUN | {"SOLVER.MAX_EPOCH": 2, "TRAIN.CHECKPOINT_STEPS": 0}
    outs = [tmp_path / "whole", tmp_path / "stopped"]
    whole, stopped = (make_cfg(words | {"OUTPUT_DIR": str(out)}) for out in outs)
    launch(whole, run_job)

    def stop(*_, **__):
        raise Interrupted(signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="iter_000006"):
        patch.setattr(train, "evaluate", stop)
        launch(stopped, run_job)
    launch(stopped, run_job)
    states = [read_checkpoint(out / "checkpoints/checkpoint_epoch_00002.pyth") for out in outs]
    assert_same_state(*states)


def test_time_alone_writes_checkpoints(start):
    run = start(
        "timed",
        {
            "TRAIN.CHECKPOINT_STEPS": 0,
            "TRAIN.CHECKPOINT_MINUTES": 1e-6,
            "TRAIN.CHECKPOINT_PERIOD": 100,
        },
    )
    assert run.wait_for(lambda: len(stats(run.out, "train_iter")) >= 4)
    run.signal(signal.SIGKILL)
    run.wait()
    assert list((run.out / "checkpoints").glob("*_iter_*"))


def test_a_damaged_newest_checkpoint_is_passed_over(start, whole):
    run = start("damaged")
    assert run.wait_for(lambda: len(stats(run.out, "train_iter")) >= 10)
    run.signal(signal.SIGKILL)
    run.wait()
    inside = sorted((run.out / "checkpoints").glob("checkpoint_epoch_*"))
    inside[-1].write_bytes(inside[-1].read_bytes()[:-1000])
    again = start("damaged")
    assert again.wait() == 0, again.console
    assert f"skipping a damaged checkpoint: {inside[-1]}" in again.console
    assert_same_state(final(whole), final(again))


def test_a_full_disk_leaves_the_last_good_checkpoint(start, whole):
    """A limit on the size of files stands for a disk that fills up while a checkpoint is written."""
    run = start("full")
    assert run.wait_for(lambda: len(stats(run.out, "train_iter")) >= 10)
    run.signal(signal.SIGTERM)
    assert run.wait() == 143
    files = {p: p.read_bytes() for p in (run.out / "checkpoints").iterdir()}
    starved = start("full", largest_file=200_000)
    assert starved.wait() == 1
    assert "cannot write" in starved.console and "File too large" in starved.console
    assert "error: " in starved.console and "Traceback" not in starved.console
    assert files == {p: p.read_bytes() for p in (run.out / "checkpoints").iterdir()}
    again = start("full")
    assert again.wait() == 0, again.console
    assert_same_state(final(whole), final(again))


def test_half_written_files_are_cleared(start):
    first = start("left")
    first.process.kill()
    first.process.join()
    folder = first.out / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".checkpoint_epoch_00001.pyth.abc.tmp").write_bytes(b"half")
    run = start("left", {"SOLVER.MAX_EPOCH": 1})
    assert run.wait() == 0, run.console
    assert not list(folder.glob(".*.tmp"))


def test_dead_workers_are_named(start):
    """A worker that is killed, as the system does when memory runs out."""
    run = start("workers", {"DATA_LOADER.NUM_WORKERS": 1, "SOLVER.MAX_EPOCH": 100})
    assert run.wait_for(lambda: len(stats(run.out, "train_iter")) >= 2)
    (worker,) = run.children()
    os.kill(worker, signal.SIGKILL)
    assert run.wait() == 1
    assert f"loader worker {worker} died: is killed by signal: Killed" in run.console
    assert "DATA_LOADER.NUM_WORKERS" in run.console
    assert "memory ran out" in run.console


def test_workers_do_not_mind_a_signal_to_the_group(start, whole):
    """Ctrl-C and scancel reach the loader workers, too: the run must still end in order."""
    extra = {"DATA_LOADER.NUM_WORKERS": 2, "TRAIN.CHECKPOINT_STEPS": 0}
    run = start("group", extra)
    assert run.wait_for(lambda: len(stats(run.out, "train_iter")) >= 10)
    workers = run.children()
    assert len(workers) >= 2
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    run.signal(signal.SIGTERM)
    assert run.wait() == 143, run.console
    again = start("group", extra)
    assert again.wait() == 0, again.console
    assert_same_state(final(whole), final(again))


def test_a_changed_run_is_refused_unless_allowed(start):
    run = start("changed", {"SOLVER.MAX_EPOCH": 1})
    assert run.wait() == 0, run.console
    # Another batch size would end with other weights; another log period would not.
    other = {"SOLVER.MAX_EPOCH": 2, "TRAIN.BATCH_SIZE": 2, "TEST.BATCH_SIZE": 6}
    refused = start("changed", other)
    assert refused.wait() == 2
    assert "SOLVER.MAX_EPOCH: is 2, was 1" in refused.console
    assert "TRAIN.BATCH_SIZE: is 2, was 1" in refused.console
    assert "TRAIN.ALLOW_CHANGED_RESUME" in refused.console
    assert "resuming with another TEST.BATCH_SIZE: 6 was 8" in refused.console
    allowed = start("changed", other | {"TRAIN.ALLOW_CHANGED_RESUME": True})
    assert allowed.wait() == 0, allowed.console
    assert "resuming although the result changes" in allowed.console
    assert stats(allowed.out, "train_epoch")[-1]["epoch"] == "2/2"
