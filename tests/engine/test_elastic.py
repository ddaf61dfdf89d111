"""Runs that go on with another number of processes: torchrun with machines that come and go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slowfast.analysis.results import read_stats as stats
from slowfast.engine.checkpoint import run_checkpoints
from slowfast.engine.elastic import settle_step
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import UserError
from slowfast.utils.processes import ending_with_parent, free_port
from tests.conftest import ROOT, TINY, words
from tests.engine.processes import Run
from tests.engine.test_processes import RUN, assert_close, finish, rank_starter, write_lists

ELASTIC = {
    "DIST.ELASTIC": "keep_batch",
    "TRAIN.BATCH_SIZE": 2,
    "SOLVER.ACCUM_STEPS": 3,
    "SOLVER.MAX_EPOCH": 8,
    "DATA.TRAIN_LIST": "twice.csv",
    "TRAIN.CHECKPOINT_STEPS": 1,
    "TRAIN.CHECKPOINT_FORMAT": "distributed",
    "MODEL.FROZEN_BN": True,
    "TRAIN.EVAL_PERIOD": 100,
    "TEST.ENABLE": False,
}
STEPS = 16
# Holds a run until there are other processes, so that the test does not depend on the machine.
GATE = """
import time
from slowfast.engine.callbacks import CALLBACK_REGISTRY, Callback

@CALLBACK_REGISTRY.register("gate")
class Gate(Callback):
    def on_step_end(self, trainer, output):
        last = {2: 5, 1: 9}.get(trainer.runtime.world, 10**9)
        while output.step >= last and not trainer.stop.number:
            time.sleep(0.02)
"""


def content(world: int, step_videos: int) -> dict:
    return {"world": world, "step_videos": step_videos}


def test_the_step_is_kept(make_cfg):
    cfg = make_cfg({"DIST.ELASTIC": "keep_batch", "SOLVER.ACCUM_STEPS": 3})
    assert settle_step(cfg, 4, 2).intended == 12
    for world, accumulated in ((1, 6), (2, 3), (3, 2), (6, 1)):
        size = settle_step(cfg, 2 * world, world, content(2, 12))
        assert (size.accumulated, size.videos, size.lr_factor) == (accumulated, 12, 1.0)
    with pytest.raises(UserError, match="12 videos, which 4 processes, 2 videos each") as error:
        settle_step(cfg, 8, 4, content(2, 12))
    assert "1, 2, 3, 6 processes can" in str(error.value)
    assert "TRAIN.BATCH_SIZE, with TRAIN.ALLOW_CHANGED_RESUME" in str(error.value)


def test_a_damaged_size_of_the_step(make_cfg):
    """What the content lacks is said where contents are checked; a huge number takes no time."""
    cfg = make_cfg({"DIST.ELASTIC": "keep_batch"})
    assert settle_step(cfg, 4, 2, {"step_videos": 12}).accumulated == 3
    with pytest.raises(UserError, match="which 2 processes, 2 videos each, cannot divide"):
        settle_step(cfg, 4, 2, content(1, 10**15 + 1))


def test_the_learning_rate_is_scaled(make_cfg):
    keys = {"DIST.ELASTIC": "scale_lr", "SOLVER.ACCUM_STEPS": 3}
    size = settle_step(make_cfg(keys), 8, 4, content(2, 12))
    assert (size.accumulated, size.videos, size.intended, size.lr_factor) == (3, 24, 12, 2.0)
    # What does it already is not done twice.
    both = make_cfg(keys | {"SOLVER.LR_BATCH_SIZE": 6})
    assert settle_step(both, 8, 4, content(2, 12)).lr_factor == 1.0


def test_nothing_changes_unless_asked_for(make_cfg):
    size = settle_step(make_cfg({"SOLVER.ACCUM_STEPS": 3}), 8, 4, content(2, 12))
    assert (size.accumulated, size.intended, size.lr_factor) == (3, 24, 1.0)


@pytest.fixture
def lists(tmp_path, shapes) -> Path:
    """24 training videos, which one, two and three processes divide into two steps."""
    folder = write_lists(tmp_path, shapes)
    rows = (folder / "good.csv").read_text().splitlines()
    (folder / "twice.csv").write_text("\n".join(rows + rows[:8]) + "\n")
    return folder


def test_with_a_scaled_learning_rate(tmp_path, lists):
    """One process after two: half of the videos a step, and half of the learning rate."""
    keys = ELASTIC | {"DIST.ELASTIC": "scale_lr", "TRAIN.BATCH_SIZE": 4, "SOLVER.ACCUM_STEPS": 1}
    keys |= {"SOLVER.LR_POLICY": "steps_with_relative_lrs", "SOLVER.STEPS": [0], "SOLVER.LRS": [1]}
    keys |= {"SOLVER.BASE_LR": 0.01, "TRAIN.CHECKPOINT_STEPS": 0, "SOLVER.MAX_EPOCH": 1}
    start = rank_starter(tmp_path, lists)
    before = stats(finish(start("scaled", 2, keys, shards=True)), "train_iter")
    out = finish(
        start("scaled", 1, keys | {"SOLVER.MAX_EPOCH": 2, "TRAIN.ALLOW_CHANGED_RESUME": True})
    )
    after = stats(out, "train_iter")[len(before) :]
    assert len(before) == 3 and len(after) == 6
    assert {row["lr"] for row in before} == {0.01} and {row["lr"] for row in after} == {0.005}
    assert (
        "steps of 4 videos instead of 8; learning rate times 0.5"
        in (out / "stdout.log").read_text()
    )


class Machine:
    """An agent of torchrun with one process."""

    def __init__(self, folder: Path, port: int, values: dict, name: str):
        self.log = folder / f"{name}.txt"
        # Shorter than usual, and long enough for all to meet on a busy machine.
        waits = "last_call_timeout=15,keep_alive_interval=2,keep_alive_max_attempt=5"
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes=1:3", "--nproc-per-node=1"),
            *("--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=elastic"),
            *(f"--rdzv-conf={waits}", "--max-restarts=3", "--monitor-interval=0.1"),
            *("--local-addr=localhost", str(ROOT / "tools/run_net.py")),
            *("--cfg", str(folder / "run.yaml"), *words(values)),
        ]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=log,
                stderr=log,
                # Machines that join later do not learn the address of a store that is shared.
                env=ending_with_parent() | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
            )

    def worker(self) -> int:
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0])


def wait_until(condition, machines: list[Machine], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        logs = "\n".join(machine.log.read_text()[-3000:] for machine in machines)
        assert time.monotonic() < end, logs
        time.sleep(0.05)


def test_machines_come_and_go(tmp_path, lists):
    """Two processes, of which one is killed with its machine, then one, then three: the weights of
    a run that nobody disturbs."""
    (tmp_path / "run.yaml").write_text("NUM_GPUS: 0\nIMPORTS: [gate]\n")
    (tmp_path / "gate.py").write_text(GATE)
    values = TINY | RUN | ELASTIC | {"DATA.PATH_TO_DATA_DIR": str(lists)}
    (tmp_path / "alone.yaml").write_text("NUM_GPUS: 0\n")
    alone = Run(
        tmp_path / "alone.yaml",
        values | {"SOLVER.ACCUM_STEPS": 6, "OUTPUT_DIR": str(tmp_path / "alone")},
    )
    out = tmp_path / "out"
    values |= {"OUTPUT_DIR": str(out), "CALLBACKS": ["gate"]}
    port = free_port()

    def saved(steps: int, world: int) -> bool:
        newest = next(iter(run_checkpoints(out)), None)
        if newest is None:
            return False
        facts = read_checkpoint(newest / "run.pyth")
        return facts["iteration"] >= steps and facts["world"] == world

    machines = [Machine(tmp_path, port, values, "a")]
    try:
        time.sleep(1)
        machines.append(Machine(tmp_path, port, values, "b"))
        wait_until(lambda: saved(5, 2), machines)
        os.kill(machines[1].worker(), signal.SIGKILL)
        machines[1].process.kill()
        wait_until(lambda: saved(9, 1), machines)
        machines += [Machine(tmp_path, port, values, name) for name in "cd"]
        for machine in (machines[0], *machines[2:]):
            assert machine.process.wait(300) == 0, machine.log.read_text()[-3000:]
    finally:
        for machine in machines:
            machine.process.kill()
            machine.process.wait()
    text = (out / "stdout.log").read_text()
    assert "1 processes, 2 before: a step of 12 videos is made up of 6 batches" in text
    assert "3 processes, " in text and "is made up of 2 batches" in text
    assert alone.wait(240) == 0, alone.console[-3000:]
    ours, theirs = (read_checkpoint(run_checkpoints(folder)[0]) for folder in (alone.out, out))
    assert theirs["world"] == 3 and theirs["iteration"] == ours["iteration"] == STEPS
    assert_close(ours, theirs)
