"""What changes during a run, and its way into a checkpoint and back."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from timm.utils import ModelEmaV3

from slowfast.config.node import CfgNode
from slowfast.datasets.batch_samplers import EpochBatchSampler
from slowfast.engine.callbacks import Callbacks
from slowfast.engine.content import KEY, check_moments
from slowfast.engine.old_states import without_frozen
from slowfast.engine.sharding import (
    full_model_state,
    full_optimizer_state,
    load_model_state,
    load_optimizer_state,
    unwrap,
)
from slowfast.engine.shares import own_model_state, own_optimizer_state
from slowfast.engine.step import OptimizerStep
from slowfast.metrics.evaluators import EvalResult, is_error
from slowfast.models.weights.loader import fitting_state
from slowfast.utils.distributed import gather_objects
from slowfast.utils.errors import UserError

_WATCHED = 5  # losses to compare with
_SCORE = "score"


@dataclass
class EpochState:
    """What an interrupted epoch has collected: unreadable videos, the statistics of its log,
    whether its line was logged already (it was interrupted in what follows its steps)."""

    bad_items: int = 0
    logged: bool = False
    meters: dict[str, Any] = field(default_factory=dict)

    def to_checkpoint(self) -> dict[str, Any]:
        """As numbers, texts, lists and dicts."""
        # "said" and "journal" are names of the file format since its first version.
        return {"bad": self.bad_items, "said": self.logged, "journal": {"meter": self.meters}}

    @classmethod
    def from_checkpoint(cls, saved: dict[str, Any]) -> EpochState | None:
        """What :meth:`to_checkpoint` gave; None if it was empty (between two epochs)."""
        if not saved:
            return None
        return cls(saved["bad"], saved["said"], saved["journal"]["meter"])


@dataclass
class Progress:
    """How far a run is.

    ``epoch`` finished epochs, ``iteration`` groups of batches of the next one that are done,
    ``step`` optimizer steps of all epochs; the ``best`` figure of all validations by metric, and
    of the ``score``; the last losses; ``epoch_state`` of an epoch that was interrupted.
    """

    epoch: int = 0
    iteration: int = 0
    step: int = 0
    best: dict[str, float] = field(default_factory=dict)
    recent_losses: list[float] = field(default_factory=list)
    epoch_state: EpochState | None = None

    def watch_loss(self, loss: float, factor: float) -> None:
        """UserError if ``loss`` exceeds ``factor`` (if > 0) times the mean of the last ones."""
        recent = self.recent_losses
        if factor > 0 and len(recent) == _WATCHED and loss > factor * statistics.mean(recent):
            raise UserError(
                f"the loss rose to {loss:.3f}, the last were {[round(r, 3) for r in recent]}",
                "lower SOLVER.BASE_LR",
                "TRAIN.KILL_LOSS_EXPLOSION_FACTOR",
            )
        self.recent_losses = [*recent, loss][-_WATCHED:]

    def record(self, result: EvalResult) -> bool:
        """Update the best figures; True if the score is better than all before."""
        is_best = result.score > self.best.get(_SCORE, float("-inf"))
        for name, value in (result.metrics | {_SCORE: result.score}).items():
            better = min if is_error(name) else max
            self.best[name] = better(self.best.get(name, value), value)
        return is_best


@dataclass(frozen=True)
class RunFingerprint:
    """What a run depends on besides its configuration: compared when it is resumed.

    ``step_videos`` over all processes are those of a step when the run began.
    """

    world: int
    data: str
    step_videos: int


@dataclass(frozen=True)
class StepOrder:
    """Where optimizer steps stand in the order of an epoch: a step takes ``accumulated`` batches of
    ``batches``, which may differ in size. Epochs and steps are counted from 0, videos over all
    processes."""

    batches: EpochBatchSampler
    accumulated: int

    def videos_before(self, epoch: int, step: int) -> int:
        """Videos of ``epoch`` before ``step`` of it."""
        return self.batches.videos_before(epoch, step * self.accumulated)

    def steps_within(self, epoch: int, videos: int) -> int:
        """Steps of ``epoch`` that its first ``videos`` fill."""
        return self.batches.batches_within(epoch, videos) // self.accumulated


def to_checkpoint(
    cfg: CfgNode,
    fingerprint: RunFingerprint,
    order: StepOrder,
    progress: Progress,
    step: OptimizerStep,
    ema: ModelEmaV3 | None,
    callbacks: Callbacks,
    class_names: Sequence[str],
    divided: bool = False,
) -> dict[str, Any]:
    """A checkpoint of the run; ``epoch`` is 0-based as in PySlowFast.

    All ranks must call it; those of a sharded network but rank 0 get empty states. ``divided``:
    each rank gets what it writes itself.
    """
    epoch_state, network = progress.epoch_state, unwrap(step.model)
    model_state = own_model_state if divided else full_model_state
    optimizer_state = own_optimizer_state if divided else full_optimizer_state
    return {
        "epoch": progress.epoch - 1,
        "iteration": progress.step,
        "progress": {f"best_{name}": float(value) for name, value in progress.best.items()},
        "inside_epoch": epoch_state.to_checkpoint() if epoch_state else {},
        "recent_losses": progress.recent_losses,
        "model_state": model_state(network),
        "optimizer_state": optimizer_state(network, step.optimizer),
        "scaler_state": step.scaler.state_dict(),
        "ema_state": model_state(ema.module) if ema else None,
        "rng_state": {"ranks": gather_objects(step.runtime.rng_state())},
        "skipped_in_row": step.skipped_in_row,
        # Batches depend on (seed, epoch) alone; the position is all there is to keep.
        "sampler_state": {
            "epoch": progress.epoch,
            "iteration": progress.iteration,
            "samples": order.videos_before(progress.epoch, progress.iteration),
        },
        "callbacks": callbacks.state_dict(),
        "world": fingerprint.world,
        "step_videos": fingerprint.step_videos,
        "data": fingerprint.data,
        "cfg": cfg.dump(),
        "class_names": list(class_names),
    }


def saved_in_epoch(content: dict[str, Any]) -> int:
    """The 0-based epoch whose layers a checkpoint holds: the one that was interrupted, or else the
    last finished one. The layers may change (see multigrid) before the next one begins."""
    return content["epoch"] + bool(content["inside_epoch"])


def from_checkpoint(
    content: dict[str, Any],
    order: StepOrder,
    step: OptimizerStep,
    ema: ModelEmaV3 | None,
    callbacks: Callbacks,
    path: object = "the checkpoint",
) -> Progress:
    """Put a checkpoint of the same run back; gives how far it was.

    UserError naming ``path`` if the network or the optimizer is another one.
    """
    network = unwrap(step.model)
    load_model_state(network, fitting_state(network, content["model_state"], path, KEY))
    optimizer_state = without_frozen(content["optimizer_state"], step.optimizer)
    check_moments(step.optimizer, optimizer_state, path)
    load_optimizer_state(network, step.optimizer, optimizer_state)
    if step.scaler.is_enabled() and content.get("scaler_state"):
        step.scaler.load_state_dict(content["scaler_state"])
    if ema is not None and content.get("ema_state"):
        load_model_state(ema.module, fitting_state(ema.module, content["ema_state"], path, KEY))
    step.skipped_in_row = content.get("skipped_in_row", 0)
    ranks = content["rng_state"]["ranks"]
    if step.runtime.rank < len(ranks):
        step.runtime.set_rng_state(ranks[step.runtime.rank])
    callbacks.load_state_dict(content.get("callbacks", {}))
    progress = Progress(epoch=content["epoch"] + 1, step=content["iteration"])
    progress.best = _finite(
        {name.removeprefix("best_"): value for name, value in content["progress"].items()}
    )
    progress.recent_losses = content["recent_losses"]
    position = content["sampler_state"]
    progress.iteration = position["iteration"]
    progress.epoch_state = EpochState.from_checkpoint(content["inside_epoch"])
    videos = position["samples"]
    if videos != order.videos_before(progress.epoch, progress.iteration):
        # Other batches: as far as those videos go. Of the next step some may be seen twice.
        progress.iteration = order.steps_within(progress.epoch, videos)
        progress.epoch_state = None
    return progress


def _finite(figures: dict[str, float]) -> dict[str, float]:
    # Before the first validation, older checkpoints hold infinite bests.
    return {name: value for name, value in figures.items() if abs(value) != float("inf")}
