"""Runs that are killed, stopped, starved of disk space, and go on as if nothing had happened."""

from __future__ import annotations

import signal

import pytest

from slowfast.models.weights.read import read_checkpoint
from tests.engine.processes import Run, assert_same_state, kill_often, stats

# Everything that has a state: dropped paths, mixup, average, accumulation with a short last group.
RUN = {
    "AUG.ENABLE": True, "AUG.NUM_SAMPLE": 2, "MIXUP.ENABLE": True, "EMA.ENABLE": True,
    "MODEL.LOSS_FUNC": "soft_cross_entropy", "SOLVER.ACCUM_STEPS": 3, "TRAIN.BATCH_SIZE": 1,
    "UNIFORMER.DROP_DEPTH_RATE": 0.3, "SOLVER.MAX_EPOCH": 8, "TEST.ENABLE": False,
    "LOG_PERIOD": 1, "TRAIN.CHECKPOINT_STEPS": 2, "TRAIN.CHECKPOINT_PERIOD": 2,
    "BN.USE_PRECISE_STATS": True, "BN.NUM_BATCHES_PRECISE": 3, "TRAIN.KEEP_CHECKPOINTS": 2,
}  # fmt: skip


@pytest.fixture
def start(tiny_words, tmp_path):
    """``start("name", {"KEY": value})`` -> a running process with its own OUTPUT_DIR."""
    config = tmp_path / "run.yaml"
    config.write_text("NUM_GPUS: 0\n")

    def begin(name: str, extra: dict | None = None, **how) -> Run:
        values = tiny_words | RUN | (extra or {}) | {"OUTPUT_DIR": str(tmp_path / name)}
        return Run(config, values, **how)

    return begin


def final(run: Run) -> dict:
    epochs = 8
    return read_checkpoint(run.out / "checkpoints" / f"checkpoint_epoch_{epochs:05d}.pyth")


@pytest.fixture
def whole(start):
    """The final state of the run that nobody disturbs."""
    run = start("whole")
    assert run.wait() == 0, run.console
    return run


@pytest.mark.parametrize("workers, kills", [(0, 20), (1, 4)])
def test_killed_at_random_iterations(start, whole, workers, kills):
    extra = {"DATA_LOADER.NUM_WORKERS": workers}
    hits = kill_often(lambda: start("killed", extra), kills, seed=workers)
    assert hits >= kills // 2  # the rest had ended before
    killed = start("killed", extra)
    killed.wait()
    assert_same_state(final(whole), final(killed))
    # The epoch lines are those of the undisturbed run, too: meters go on where they were.
    for kind in ("train_epoch", "val_epoch"):
        assert figures(whole, kind) == figures(killed, kind)


def figures(run: Run, kind: str) -> dict:
    """The last line of each epoch, without times and memory."""
    noise = ("RAM", "gpu_mem", "dt", "dt_data", "dt_net", "clips_per_second", "time_diff", "eta")
    rows = {row["epoch"]: row for row in stats(run.out, kind)}
    return {e: {k: v for k, v in row.items() if k not in noise} for e, row in rows.items()}
