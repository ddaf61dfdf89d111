"""Callbacks and loggers of a run: when they are called, and that they disturb nothing."""

from __future__ import annotations

import json
import random
import sys
import types

import numpy as np
import pytest
import torch

from slowfast.config.load import load_config
from slowfast.engine.callbacks import CALLBACK_REGISTRY, Callback, preserved_rng
from slowfast.engine.loggers import LOGGER_REGISTRY, scalar_tags
from slowfast.engine.tasks import build_task
from slowfast.engine.train import Trainer
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import UserError
from slowfast.utils.runtime import Runtime
from tests.conftest import words

CPU = Runtime(torch.device("cpu"))
CALLS: list[tuple] = []


class Recorder(Callback):
    """Records all moments, draws random numbers, and keeps a count over interruptions."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.steps = 0

    def on_run_start(self, trainer):
        CALLS.append(("run_start", trainer.progress.step, self.steps))

    def on_epoch_start(self, trainer, epoch):
        CALLS.append(("epoch_start", epoch))

    def on_step_end(self, trainer, output):
        self.steps += 1
        torch.rand(3), np.random.rand(), random.random()
        CALLS.append(("step", trainer.progress.step))

    def on_evaluation_end(self, trainer, result):
        CALLS.append(("evaluation", result.items))

    def on_epoch_end(self, trainer, epoch):
        CALLS.append(("epoch_end", epoch))

    def on_checkpoint(self, trainer, path):
        CALLS.append(("checkpoint", path.name))

    def on_run_end(self, trainer):
        CALLS.append(("run_end", self.steps))

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


class Stopper(Callback):
    """Stops after the first epoch."""

    def on_epoch_end(self, trainer, epoch):
        trainer.request_stop("enough")


class Lines:
    """Writes kinds and losses to a file."""

    def __init__(self, cfg, first_step=0):
        self.file = f"{cfg.OUTPUT_DIR}/lines.txt"

    def log(self, kind, figures, step):
        with open(self.file, "a") as file:
            file.write(f"{kind} {step} {sorted(figures)[:1]}\n")

    def close(self):
        with open(self.file, "a") as file:
            file.write("closed\n")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """For these tests only: the registries are also the documented choices of keys."""
    monkeypatch.setitem(CALLBACK_REGISTRY._objects, "test_recorder", Recorder)
    monkeypatch.setitem(CALLBACK_REGISTRY._objects, "test_stopper", Stopper)
    monkeypatch.setitem(LOGGER_REGISTRY._objects, "test_lines", Lines)


@pytest.fixture(autouse=True)
def _no_calls():
    CALLS.clear()


def trainer(make_cfg, tmp_path, **values):
    (tmp_path / "out").mkdir(exist_ok=True)
    cfg = make_cfg({"TRAIN.CHECKPOINT_PERIOD": 1, "UNIFORMER.DROP_DEPTH_RATE": 0.3} | values)
    return Trainer(cfg, CPU, build_task(cfg, CPU))


def test_moments_in_order(make_cfg, tmp_path):
    trainer(make_cfg, tmp_path, **{"CALLBACKS": ["test_recorder"]}).run()
    steps = [("step", n) for n in range(1, 9)]
    epoch = [
        [("epoch_start", e), *steps[4 * e : 4 * e + 4], ("evaluation", 8), ("epoch_end", e)]
        for e in (0, 1)
    ]
    calls = [call for call in CALLS if call[0] != "checkpoint"]
    assert calls == [("run_start", 0, 0), *epoch[0], *epoch[1], ("run_end", 8)]
    written = [name for kind, name in (c for c in CALLS if c[0] == "checkpoint")]
    assert written[-1] == "checkpoint_epoch_00002.pyth"


def test_callbacks_do_not_change_the_result(make_cfg, tmp_path):
    states = []
    for names in ([], ["test_recorder"]):
        folder = tmp_path / str(len(names))
        folder.mkdir()
        values = {"CALLBACKS": names, "OUTPUT_DIR": str(folder / "out")}
        one = trainer(make_cfg, folder, **values)
        one.run()
        states.append(one.model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_their_state_survives_an_interruption(make_cfg, tmp_path):
    values = {"CALLBACKS": ["test_recorder"]}
    first = trainer(make_cfg, tmp_path, **values)
    first.train_epoch(0)
    first.finish_epoch(0)
    CALLS.clear()
    again = trainer(make_cfg, tmp_path, **values)
    again.run()
    assert CALLS[0] == ("run_start", 4, 4) and CALLS[-1] == ("run_end", 8)


def test_a_stopped_training_has_its_checkpoint(make_cfg, tmp_path):
    values = {"CALLBACKS": ["test_stopper"], "SOLVER.MAX_EPOCH": 3, "TRAIN.CHECKPOINT_PERIOD": 3}
    one = trainer(make_cfg, tmp_path, **values)
    one.run()
    assert one.progress.epoch == 1
    path = tmp_path / "out" / "checkpoints" / "checkpoint_epoch_00001.pyth"
    assert read_checkpoint(path)["epoch"] == 0


def test_early_stopping_stays_stopped(make_cfg, tmp_path):
    values = {
        "CALLBACKS": ["early_stopping"],
        "TRAIN.EARLY_STOPPING_PATIENCE": 1,
        "SOLVER.MAX_EPOCH": 9,
        "SOLVER.BASE_LR": 1e-9,
        "SOLVER.WARMUP_START_LR": 1e-9,
    }
    one = trainer(make_cfg, tmp_path, **values)
    one.run()  # nothing is learned: validations are soon no better
    stopped = one.progress.epoch
    assert 2 <= stopped < 9
    again = trainer(make_cfg, tmp_path, **values)
    again.run()
    assert again.progress.epoch == stopped


def test_generators_are_put_back():
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    before = torch.get_rng_state().clone(), random.getstate()
    with preserved_rng(CPU):
        torch.rand(2), np.random.rand(), random.random()
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert np.random.rand() == pytest.approx(0.5488135)


def test_a_logger_of_ones_own(make_cfg, tmp_path):
    one = trainer(make_cfg, tmp_path, **{"LOGGERS": ["test_lines"]})
    one.run()
    lines = (tmp_path / "out" / "lines.txt").read_text().splitlines()
    kinds = [line.split()[0] for line in lines]
    assert kinds.count("train_step") == 8 and kinds.count("val_epoch") == 2
    assert kinds[-1] == "closed"
    stats = (tmp_path / "out" / "stats.jsonl").read_text().splitlines()
    assert {json.loads(line)["_type"] for line in stats} >= {"train_iter", "val_epoch"}


def test_tags_of_scalars():
    figures = {"loss": 1.5, "top1_err": 30, "loss_distillation": 0.1, "epoch": "1/2"}
    assert scalar_tags("train_step", figures) == {
        "Train/loss": 1.5,
        "Train/Top1_err": 30.0,
        "Train/loss_distillation": 0.1,
    }
    assert scalar_tags("val_epoch", {"top1_err": 2.0, "min_top1_err": 1.0, "videos": 8}) == {
        "Val/Top1_err": 2.0
    }
    assert scalar_tags("train_iter", figures) == {}


def test_absent_names_are_refused(tiny_words):
    with pytest.raises(UserError, match="did you mean early_stopping") as caught:
        load_config(
            overrides=words(tiny_words | {"CALLBACKS": ["early_stoping"], "LOGGERS": ["x"]})
        )
    assert "LOGGERS" in str(caught.value)


def test_a_missing_package_names_itself(make_cfg, tmp_path):
    with pytest.raises(UserError, match="mlflow is not installed"):
        trainer(make_cfg, tmp_path, **{"LOGGERS": ["mlflow"]})


def test_weights_and_biases(make_cfg, tmp_path, monkeypatch):
    """Figures of steps and validations arrive; a stand-in takes the place of the package."""
    lines, finished = [], []
    run = types.SimpleNamespace(log=lines.append, finish=lambda: finished.append(True))
    package = types.SimpleNamespace(init=lambda **options: run)
    monkeypatch.setitem(sys.modules, "wandb", package)
    trainer(make_cfg, tmp_path, **{"LOGGERS": ["wandb"], "SOLVER.MAX_EPOCH": 1}).run()
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 4] and finished == [True]
    assert "Train/loss" in lines[0] and "Val/Top1_err" in lines[-1]
