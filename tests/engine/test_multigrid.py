"""Multigrid training: schedule, batches, normalisation, exact resume."""

from __future__ import annotations

import logging
import shutil
import signal
from pathlib import Path

import pytest
import torch

from slowfast.analysis.stress.resume import state_differences
from slowfast.config.load import load_config
from slowfast.datasets.multigrid import phase_of
from slowfast.engine.multigrid import TrainingPlan, norm_parts
from slowfast.engine.schedule import learning_rate
from slowfast.engine.tasks import build_task
from slowfast.engine.train import Trainer
from slowfast.layers.sub_norm import SubBatchNorm
from slowfast.models.base import MODEL_REGISTRY
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import Interrupted, UserError
from slowfast.utils.runtime import Runtime
from tests.conftest import ROOT, TINY

CPU = Runtime(torch.device("cpu"))

# Two sizes and two crops of each: batches of 4 and 4 clips of 2 frames, then 2 and 1 of 4 frames.
GRID = {
    "MULTIGRID.SHORT_CYCLE": True,
    "MULTIGRID.SHORT_CYCLE_FACTORS": [0.75],
    "MULTIGRID.LONG_CYCLE": True,
    "MULTIGRID.LONG_CYCLE_FACTORS": [[0.5, 0.7071], [1, 1]],
    "MULTIGRID.EPOCH_FACTOR": 2.0,
    "MULTIGRID.BN_BASE_SIZE": 2,
    "SOLVER.LR_POLICY": "steps_with_relative_lrs",
    "SOLVER.STEPS": [0, 2],
    "SOLVER.LRS": [1, 0.1],
    "SOLVER.MAX_EPOCH": 3,
    "SOLVER.OPTIMIZING_METHOD": "sgd",
    "TRAIN.BATCH_SIZE": 1,
    "DATA.SAMPLING_RATE": 2,
}
NETWORK = dict(MODEL_REGISTRY.get("SlowFast").spec.test_overrides) | {
    "MODEL.MODEL_NAME": "SlowFast",
    "MODEL.DROPOUT_RATE": 0.3,
    "RESNET.TRANS_FUNC": "basic_transform",
    "RESNET.WIDTH_PER_GROUP": 2,
    "SLOWFAST.BETA_INV": 2,
}
# Three epochs of small clips, one of full size.
RUN = (
    GRID
    | NETWORK
    | {
        "MULTIGRID.EPOCH_FACTOR": 1.5,
        "MULTIGRID.EVAL_FREQ": 1,
        "EMA.ENABLE": True,
        "BN.USE_PRECISE_STATS": True,
        "BN.NUM_BATCHES_PRECISE": 2,
        "TEST.ENABLE": False,
    }
)


# -- the schedule ----------------------------------------------------------------------------


def test_a_schedule_by_hand(make_cfg):
    """Volumes: 4 frames of 32² = 4096. Two frames of 23² are 1058 (a batch of 4), of 24² 1152
    (also 4); four frames of 24² are 2304 (2), of 32² one. Means of the batches: 4 and 1.5. The two
    epochs before the step are divided as 4 : 1.5, that is 1.4545 and 0.5455; an epoch has 2 / 5.5
    as many steps as one at full size, so that the last one becomes 2 / 5.5 * 1.5 = 0.5455. The six
    epochs (2 * 3) are then divided as 3.43, 1.29, 1.29: ends at 3, 5 and 6."""
    plan = TrainingPlan.from_cfg(make_cfg(GRID | NETWORK))
    assert [(phase.step, phase.end) for phase in plan.phases] == [(0, 3), (0, 5), (1, 6)]
    small, full, last = ([(form.factor, *form.size) for form in p.forms] for p in plan.phases)
    assert small == [(4, 2, 24, (2, 4)), (4, 2, 23, (2, 4))]
    assert full == last == [(2, 4, 24, (2, 2)), (1, 4, 32, (2, 2))]
    # four times the videos, four times the rate; the second half of the last phase falls
    assert plan.solver.STEPS == [0, 3, 5, 5] and plan.solver.LRS == [4, 1, 1, 0.1]
    assert plan.epochs == 6
    rates = [learning_rate(plan.solver, epoch) for epoch in range(6)]
    assert rates == pytest.approx([0.004] * 3 + [0.001] * 2 + [0.0001])


def test_evaluations_and_checkpoints_of_each_phase(make_cfg):
    """MULTIGRID.EVAL_FREQ times, the last time at the end."""
    plan = TrainingPlan.from_cfg(make_cfg(GRID | NETWORK | {"MULTIGRID.EVAL_FREQ": 2}))
    assert [epoch for epoch in range(6) if plan.is_due(epoch, 100)] == [0, 2, 4, 5]
    plan = TrainingPlan.from_cfg(make_cfg(GRID | NETWORK | {"MULTIGRID.EVAL_FREQ": 1}))
    assert [epoch for epoch in range(6) if plan.is_due(epoch, 1)] == [2, 4, 5]


def test_the_short_cycle_alone_stretches_the_steps(make_cfg):
    values = GRID | NETWORK | {"MULTIGRID.LONG_CYCLE": False, "BN.NORM_TYPE": "sync_batchnorm"}
    plan = TrainingPlan.from_cfg(make_cfg(values))
    assert plan.epochs == 6 and plan.solver.STEPS == [0, 4] and plan.solver.LRS == [1, 0.1]
    assert [form.factor for form in plan.phases[0].forms] == [2, 1]
    assert plan.is_due(1, 2) and not plan.is_due(2, 2)  # TRAIN.EVAL_PERIOD as ever


def test_without_multigrid_nothing_changes(make_cfg):
    cfg = make_cfg(GRID | NETWORK | {"MULTIGRID.LONG_CYCLE": False, "MULTIGRID.SHORT_CYCLE": False})
    plan = TrainingPlan.from_cfg(cfg)
    assert plan.solver is cfg.SOLVER and not plan.phases and not plan.describe(cfg, CPU)


@pytest.mark.parametrize(
    "batch, local, world, expected",
    [
        (64, 8, 8, [(32, 1), (8, 1)]),
        (8, 8, 8, [(4, 1), (1, 1)]),
        (4, 8, 8, [(2, 1), (1, 2)]),
        (1, 8, 8, [(1, 2), (1, 8)]),
        (1, 6, 6, [(1, 1), (1, 6)]),
        (1, 20, 6, [(1, 3), (1, 6)]),  # five, but six processes divide into groups of three
    ],
)
def test_about_as_many_clips_are_normalised_together(make_cfg, batch, local, world, expected):
    cfg = make_cfg(GRID | NETWORK | {"TRAIN.BATCH_SIZE": batch, "MULTIGRID.BN_BASE_SIZE": 1})
    phases = TrainingPlan.from_cfg(cfg).phases[:2]
    runtime = Runtime(torch.device("cpu"), 0, world, 0, local)
    assert [norm_parts(cfg, phase, runtime) for phase in phases] == expected


def test_the_documented_schedule():
    """docs/multigrid.md shows what a run of the file says on eight GPUs."""
    cfg = load_config(
        [ROOT / "configs/Kinetics/SLOWFAST_8x8_R50_stepwise_multigrid.yaml"], {"NUM_GPUS": 8}
    )
    lines = TrainingPlan.from_cfg(cfg).describe(cfg, Runtime(torch.device("cpu"), 0, 8, 0, 8))
    text = (ROOT / "docs/multigrid.md").read_text()
    assert "\n".join(lines[:6]) in text and len(lines) == 2 + 13


# -- training --------------------------------------------------------------------------------


class Stopped(Trainer):
    """A signal comes during optimizer step ``stop_at`` of the run; the next step is the last."""

    stop_at = 0

    def train_step(self, batches, lr, sizes):
        pending = super().train_step(batches, lr, sizes)
        if self.progress.step == self.stop_at:
            self.stop.number = signal.SIGTERM
        return pending


def trainer_in(folder: Path, shapes: Path):
    """``run("name", {"KEY": value}, stop_at=3)`` -> the trainer, at the end of its run."""
    data = {
        "TRAIN.DATASET": "moving_shapes",
        "TEST.DATASET": "moving_shapes",
        "DATA.PATH_TO_DATA_DIR": str(shapes),
        "DATA.RANDOM_FLIP": False,
    }

    def run(name: str, values: dict | None = None, stop_at: int = 0) -> Stopped:
        out = folder / name
        out.mkdir(exist_ok=True)
        values = TINY | data | RUN | {"OUTPUT_DIR": str(out)} | (values or {})
        cfg = load_config(overrides=values)
        trainer = Stopped(cfg, CPU, build_task(cfg, CPU))
        trainer.stop_at = stop_at
        if stop_at:
            with pytest.raises(Interrupted):
                trainer.run()
        else:
            trainer.run()
        return trainer

    return run


@pytest.fixture
def train(tmp_path, shapes):
    return trainer_in(tmp_path, shapes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, shapes):
    """The run that nobody disturbs."""
    return trainer_in(tmp_path_factory.mktemp("whole"), shapes)("whole")


def final(trainer: Trainer) -> dict:
    folder = Path(trainer.cfg.OUTPUT_DIR) / "checkpoints"
    return read_checkpoint(folder / f"checkpoint_epoch_{trainer.plan.epochs:05d}.pyth")


def go_on(train, checkpoint: Path, values: dict | None = None) -> Trainer:
    """A run that finds ``checkpoint`` in its folder, at its end."""
    folder = checkpoint.parents[2] / "resumed" / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copy(checkpoint, folder)
    return train(folder.parent, values)


def test_batches_and_layers_follow_the_phases(train, monkeypatch, caplog):
    seen = []
    step = Stopped.train_step

    def watched(self, batches, lr, sizes):
        (layer, *_) = (m for m in self.model.modules() if isinstance(m, SubBatchNorm))
        seen.append((self.progress.epoch, *batches[0].video.shape[:1], layer.num_splits))
        shape = tuple(batches[0].video.shape)
        assert shape[1] == 3 and shape[3] == shape[4]
        seen[-1] += (shape[2], shape[3], round(lr, 6))
        return step(self, batches, lr, sizes)

    monkeypatch.setattr(Stopped, "train_step", watched)
    with caplog.at_level(logging.INFO, "slowfast"):
        train("out")
    # the schedule, not one size of all steps
    assert "multigrid training, 4 epochs" in caplog.text and "a step sees" not in caplog.text
    first = [row[1:] for row in seen if row[0] == 0]
    assert first == [(4, 2, 2, 24, 0.004), (4, 2, 2, 23, 0.004)] * 2
    fourth = [row[1:] for row in seen if row[0] == 3]
    assert fourth == [(2, 1, 4, 24, 0.001), (1, 1, 4, 32, 0.001)] * 5  # 15 of 16 videos


@pytest.mark.parametrize(
    "stop_at, last",
    [
        pytest.param(2, 3, id="within a short cycle"),
        pytest.param(11, 12, id="after the last step of a phase"),
        pytest.param(12, 12, id="in the evaluation at its end"),
        pytest.param(14, 15, id="within a short cycle of the next phase"),
    ],
)
def test_resumed_runs_are_the_same_to_the_bit(train, whole, stop_at, last):
    """Also with another number of workers."""
    assert phase_of(whole.plan.phases, 3) is whole.plan.phases[1]
    stopped = train("stopped", {"DATA_LOADER.NUM_WORKERS": 1}, stop_at)
    assert stopped.progress.step == last
    resumed = train("stopped", {"DATA_LOADER.NUM_WORKERS": 2})
    assert state_differences(final(whole), final(resumed)) == []


def test_a_run_goes_on_from_the_checkpoint_at_the_end_of_a_phase(train, whole):
    """The only ones that are written; their layers have the parts of the phase that has ended."""
    folder = Path(whole.cfg.OUTPUT_DIR) / "checkpoints"
    names = sorted(path.name for path in folder.glob("checkpoint_epoch_*"))
    assert names == ["checkpoint_epoch_00003.pyth", "checkpoint_epoch_00004.pyth"]
    state = read_checkpoint(folder / names[0])["model_state"]
    splits = {v.shape[0] for n, v in state.items() if n.endswith("stem.bn.split_bn.running_mean")}
    assert splits == {2 * 2, 2 * 1}  # two parts; slow and fast stem
    resumed = go_on(train, folder / names[0])
    assert state_differences(final(whole), final(resumed)) == []


def test_statistics_go_on_alike_where_phases_have_equal_parts(train):
    """Each phase begins with the statistics of all parts together, also where it has as many parts
    as the one before and those of the checkpoint would fit."""
    values = {
        "MULTIGRID.SHORT_CYCLE": False,
        "MULTIGRID.LONG_CYCLE_FACTORS": [[1, 1], [1, 1]],
        "MULTIGRID.EPOCH_FACTOR": 1.0,
        "TRAIN.BATCH_SIZE": 4,
    }
    whole = train("whole", values)
    phases = whole.plan.phases
    assert [phase.end for phase in phases] == [1, 2, 3]
    assert {norm_parts(whole.cfg, phase, CPU) for phase in phases} == {(2, 1)}
    first = Path(whole.cfg.OUTPUT_DIR) / "checkpoints/checkpoint_epoch_00001.pyth"
    assert state_differences(final(whole), final(go_on(train, first, values))) == []


def test_what_is_tested_sees_all_parts(train):
    """Checkpoints within a phase hold the statistics of all parts together, for the network that
    is tested, whatever its own parts are."""
    trainer = train("out", {"MULTIGRID.EVAL_FREQ": 1}, stop_at=2)
    (path,) = (Path(trainer.cfg.OUTPUT_DIR) / "checkpoints").iterdir()
    state = read_checkpoint(path)["model_state"]
    name = "s1.pathway0_stem.bn"
    parts = state[f"{name}.split_bn.running_mean"].view(2, -1)
    assert torch.allclose(state[f"{name}.bn.running_mean"], parts.mean(0))


def test_an_epoch_goes_on_at_the_same_video_with_other_batches(train, monkeypatch):
    """A run goes on with batches of twice the size, as on twice as many processes: the first of
    them, 8 videos, was not complete after the 6 of two smaller ones. None is left out."""
    seen = []
    step = Stopped.train_step

    def watched(self, batches, lr, sizes):
        if self.progress.epoch == 0:
            seen.append([index for batch in batches for index in batch.index.tolist()])
        return step(self, batches, lr, sizes)

    monkeypatch.setattr(Stopped, "train_step", watched)
    values = {
        "MULTIGRID.LONG_CYCLE": False,
        "MULTIGRID.SHORT_CYCLE_FACTORS": [0.5, 0.7071],
        "MULTIGRID.EPOCH_FACTOR": 0.4,
        "BN.USE_PRECISE_STATS": False,
    }
    train("out", values, stop_at=1)
    train("out", values | {"TRAIN.BATCH_SIZE": 2, "TRAIN.ALLOW_CHANGED_RESUME": True})
    assert [len(videos) for videos in seen] == [4, 2, 8, 4, 2]
    before, after = sum(seen[:2], []), sum(seen[2:], [])
    assert after[:6] == before and len(set(after)) == 14


@pytest.mark.parametrize("accumulated", [2, 3])
def test_a_step_may_have_batches_of_several_sizes(train, accumulated):
    """SOLVER.ACCUM_STEPS: the mean over all clips of the batches, whatever their sizes."""
    values = {"SOLVER.ACCUM_STEPS": accumulated}
    whole = train("whole", values)
    assert whole.progress.step == 3 * -(-4 // accumulated) + -(-10 // accumulated)
    train("stopped", values, stop_at=1)
    assert state_differences(final(whole), final(train("stopped", values))) == []


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values, key, text",
    [
        ({"MODEL.MODEL_NAME": "Uniformer"}, "MULTIGRID.LONG_CYCLE", "ResNet, SlowFast, X3D"),
        ({"SOLVER.LR_POLICY": "cosine"}, "MULTIGRID.LONG_CYCLE", "steps_with_relative_lrs"),
        ({"SOLVER.STEPS": [0], "SOLVER.LRS": [1]}, "MULTIGRID.LONG_CYCLE", "two or more"),
        ({"SOLVER.STEPS": [0, 3]}, "MULTIGRID.LONG_CYCLE", "below SOLVER.MAX_EPOCH"),
        ({"MULTIGRID.LONG_CYCLE_FACTORS": [0.5, 1]}, "MULTIGRID.LONG_CYCLE_FACTORS", "a pair"),
        ({"MULTIGRID.LONG_CYCLE_FACTORS": [[2, 1.5]]}, "MULTIGRID.LONG_CYCLE_FACTORS", "0 times"),
        ({"MULTIGRID.LONG_CYCLE_FACTORS": [[0.1, 1]]}, "MULTIGRID.LONG_CYCLE_FACTORS", "no clip"),
        ({"MULTIGRID.LONG_CYCLE_FACTORS": [[0.25, 1]]}, "MULTIGRID.LONG_CYCLE_FACTORS", "multiple"),
        ({"MULTIGRID.SHORT_CYCLE_FACTORS": [2]}, "MULTIGRID.SHORT_CYCLE_FACTORS", "0 times"),
        ({"MULTIGRID.SHORT_CYCLE_FACTORS": [0.01]}, "MULTIGRID.SHORT_CYCLE_FACTORS", "larger"),
        ({"MULTIGRID.EPOCH_FACTOR": 0.01}, "MULTIGRID.EPOCH_FACTOR", "no epoch"),
        ({"TRAIN.COMPILE": True}, "TRAIN.COMPILE", "several sizes"),
        ({"SOLVER.KD": True}, "SOLVER.KD", "several sizes"),
        ({"TASK": "fewshot"}, "MULTIGRID.LONG_CYCLE", "size of their own"),
    ],
)
def test_what_is_refused(make_cfg, values, key, text):
    with pytest.raises(UserError) as caught:
        make_cfg(GRID | NETWORK | values)
    assert any(p.key == key and text in str(p) for p in caught.value.problems), caught.value


def test_a_list_smaller_than_the_largest_batch(make_cfg):
    cfg = make_cfg(RUN | {"TRAIN.BATCH_SIZE": 5})
    with pytest.raises(UserError, match="a step takes 20 videos, but .* has 16"):
        build_task(cfg, CPU).data.loader("train")


def test_workers_are_as_many_as_the_longest_epoch_needs(make_cfg):
    """Of 16 videos: two batches of eight in the first epochs, later five of four or two."""
    cfg = make_cfg(RUN | {"TRAIN.BATCH_SIZE": 2, "DATA_LOADER.NUM_WORKERS": 8})
    loader = build_task(cfg, CPU).data.loader("train")
    assert len(loader) == 2 and loader.num_workers == 5


def test_a_test_needs_no_schedule():
    """The keys of a file that trains with multigrid are not judged where nothing is trained."""
    cfg = TINY | {"TRAIN.ENABLE": False, "MULTIGRID.SHORT_CYCLE": True}
    assert load_config(overrides=cfg).MULTIGRID.SHORT_CYCLE


@pytest.mark.parametrize("name", ["ResNet", "SlowFast", "X3D"])
def test_heads_of_the_short_cycle_see_the_whole_clip(name):
    """A test clip that is larger than those of the training is one position, as published."""
    spec = MODEL_REGISTRY.get(name).spec
    values = dict(spec.test_overrides) | {"MODEL.MODEL_NAME": name}
    video = torch.randn(1, 3, 4, 64, 64)
    for short, dims in ((False, 3), (True, 2)):
        cfg = load_config(overrides=values | {"MULTIGRID.SHORT_CYCLE": short, "NUM_GPUS": 0})
        model = MODEL_REGISTRY.get(name).from_cfg(cfg).eval()
        assert model.forward_features(video).dim() == dims
