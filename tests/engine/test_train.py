"""The trainer: units that a subclass overrides, and rules that only a loop can keep."""

from __future__ import annotations

import contextlib
import dataclasses
import signal

import pytest
import torch

from slowfast.engine import step_sync
from slowfast.engine import train as train_module
from slowfast.engine.state import EpochState, Progress
from slowfast.engine.tasks import build_task
from slowfast.engine.tasks.recognition import RecognitionTask
from slowfast.engine.train import Trainer, train
from slowfast.metrics.evaluators import EvalResult
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import Interrupted, UserError
from slowfast.utils.runtime import Runtime

CPU = Runtime(torch.device("cpu"))


def build(make_cfg, tmp_path, kind=Trainer, **values):
    (tmp_path / "out").mkdir(exist_ok=True)
    cfg = make_cfg(values)
    return kind(cfg, CPU, build_task(cfg, CPU))


class Doubled(Trainer):
    """Every step is done twice."""

    def train_step(self, batches, lr, sizes):
        super().train_step(batches, lr, sizes)
        return super().train_step(batches, lr, sizes)


def test_a_step_may_be_overridden(make_cfg, tmp_path):
    one = build(make_cfg, tmp_path, Doubled, **{"SOLVER.MAX_EPOCH": 1})
    one.run()
    assert one.progress.step == 8


@pytest.mark.parametrize("stop_after", [0, 3])
def test_figures_may_come_a_step_late(make_cfg, tmp_path, monkeypatch, stop_after):
    """As on a GPU: the same weights, the same lines of the log, the same state after a stop."""
    results = []
    for ahead in (0, 1):
        monkeypatch.setattr(Runtime, "steps_ahead", ahead)
        folder = tmp_path / f"ahead{ahead}"
        folder.mkdir()
        values = {"OUTPUT_DIR": str(folder), "TRAIN.CHECKPOINT_STEPS": 1}
        lines = []
        for _ in range(2 if stop_after else 1):
            one = build(make_cfg, tmp_path, **values)
            log = one.loggers.log
            one.loggers.log = lambda kind, figures, step, log=log: (
                lines.append((kind, step, figures.get("loss"), figures.get("top1_err"))),
                log(kind, figures, step),
            )
            launch = one.optimizer_step.launch

            def counted(*arguments, one=one, launch=launch):
                if one.progress.step + 1 == stop_after:
                    one.stop.number = signal.SIGTERM
                return launch(*arguments)

            one.optimizer_step.launch = counted
            with contextlib.suppress(Interrupted):
                one.run()
        kept = [line for line in lines if line[0] != "resume"]
        results.append((one.progress.step, kept, one.model.state_dict()))
        if stop_after:
            assert len(list(folder.glob("checkpoints/*"))) >= 2
    (steps, lines, weights), (late_steps, late_lines, late_weights) = results
    assert steps == late_steps == 8 and lines == late_lines
    assert [line[1] for line in lines if line[0] == "train_step"] == list(range(1, 9))
    assert all(torch.equal(weights[name], late_weights[name]) for name in weights)


def test_ranks_exchange_one_message_a_step(make_cfg, tmp_path, monkeypatch):
    """What to do next and the figures of finished steps travel together."""
    monkeypatch.setattr(Runtime, "steps_ahead", 1)
    one = build(make_cfg, tmp_path, **{"SOLVER.MAX_EPOCH": 1})
    widths = []
    gather = step_sync.gather_numbers

    def counted(values):
        widths.append(len(values))
        return gather(values)

    monkeypatch.setattr(step_sync, "gather_numbers", counted)
    monkeypatch.setattr(train_module, "gather_numbers", counted)
    one.train_epoch(0)
    own = 4  # signal, save, bad videos, size of the batch
    figures = 3  # finite, loss, top-1 error (of four classes there is no top-5)
    assert widths == [own, own, own + figures, own + figures, 2 * figures]


def test_a_task_names_its_trainer(make_cfg, tmp_path):
    class Task(RecognitionTask):
        trainer_class = Doubled

    (tmp_path / "out").mkdir()
    cfg = make_cfg({"SOLVER.MAX_EPOCH": 1})
    steps = []
    Doubled.save = lambda self, *_: steps.append(self.progress.step)
    try:
        train(cfg, CPU, Task(cfg, CPU))
    finally:
        del Doubled.save
    assert steps == [8]


def test_loggers_are_closed_when_a_run_fails(make_cfg, tmp_path, monkeypatch):
    """Otherwise the last lines of TensorBoard would be lost."""
    one = build(make_cfg, tmp_path)
    closed = []
    monkeypatch.setattr(one, "train_epoch", lambda epoch: 1 / 0)
    monkeypatch.setattr(one.loggers, "close", lambda: closed.append(True))
    with pytest.raises(ZeroDivisionError):
        one.run()
    assert closed == [True]


def test_the_average_is_validated(make_cfg, tmp_path, monkeypatch):
    one = build(make_cfg, tmp_path, **{"EMA.ENABLE": True, "SOLVER.MAX_EPOCH": 1})
    seen = []

    def evaluate(model, *_, **__):
        seen.append(model)
        return EvalResult({}, 0.0, 1)

    monkeypatch.setattr(train_module, "evaluate", evaluate)
    one.validate(one.val_observer(0))
    assert seen == [one.ema.module] and seen[0] is not one.model


def test_an_explosion_of_the_loss_stops():
    progress = Progress()
    for loss in (1.0, 1.0, 1.0, 1.0):
        progress.watch_loss(loss, 2.0)
    progress.watch_loss(5.0, 2.0)  # only four losses to compare with
    progress.recent_losses = [1.0] * 5
    progress.watch_loss(2.0, 2.0)
    assert progress.recent_losses == [1.0, 1.0, 1.0, 1.0, 2.0]
    with pytest.raises(UserError, match="the loss rose to 2.500"):
        progress.watch_loss(2.5, 2.0)
    progress.watch_loss(1e9, 0.0)  # switched off


def test_a_run_stops_when_its_loss_explodes(make_cfg, tmp_path):
    values = {"TRAIN.KILL_LOSS_EXPLOSION_FACTOR": 0.5, "SOLVER.MAX_EPOCH": 3}
    one = build(make_cfg, tmp_path, **values)
    with pytest.raises(UserError, match="TRAIN.KILL_LOSS_EXPLOSION_FACTOR"):
        one.run()


def test_best_figures():
    progress = Progress()
    assert progress.record(EvalResult({"top1_err": 40.0, "map": 0.3}, 60.0, 8))
    assert not progress.record(EvalResult({"top1_err": 50.0, "map": 0.4}, 50.0, 8))
    assert progress.best == {"top1_err": 40.0, "map": 0.4, "score": 60.0}
    assert not progress.record(EvalResult({}, 60.0, 8))  # as good is not better


def test_the_state_of_an_epoch_travels():
    state = EpochState(3, True, {"size": 4, "last": {}, "meters": {}})
    assert EpochState.from_checkpoint(state.to_checkpoint()) == state
    assert EpochState.from_checkpoint({}) is None
    assert dataclasses.astuple(EpochState()) == (0, False, {})


def test_a_checkpoint_inside_an_epoch_can_be_tested(make_cfg, tmp_path):
    """Its layers have the statistics of the steps so far, not those of the epoch before."""
    values = {"BN.NORM_TYPE": "sub_batchnorm", "BN.NUM_SPLITS": 2, "EMA.ENABLE": True}
    one = build(make_cfg, tmp_path, **values)
    one.train_epoch(0)
    content = read_checkpoint(one._save_mid_epoch())
    for state in (content["model_state"], content["ema_state"]):
        parts = [name for name in state if name.endswith("split_bn.running_mean")]
        assert parts
        for name in parts:
            mean = state[name].view(2, -1).mean(0)
            assert mean.any() and torch.equal(state[name.replace("split_bn", "bn")], mean)
