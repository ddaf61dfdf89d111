"""What changes during a run, and its way into a checkpoint and back."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from timm.utils import ModelEmaV3

from slowfast.config.node import CfgNode
from slowfast.engine.sharding import (
    full_model_state,
    full_optimizer_state,
    load_model_state,
    load_optimizer_state,
    unwrap,
)
from slowfast.engine.step import OptimizerStep
from slowfast.utils.distributed import gather_objects
from slowfast.utils.errors import UserError

_WATCHED = 5  # losses to compare with
_BEST = ("best_top1_err", "best_top5_err", "best_score")


@dataclass
class Progress:
    """How far a run is.

    ``epoch`` finished epochs, ``iteration`` groups of batches of the next one that are done,
    ``step`` optimizer steps of all epochs; the best validation so far; the last losses;
    ``inside`` is what the begun epoch has collected (numbers, texts, lists and dicts).
    """

    epoch: int = 0
    iteration: int = 0
    step: int = 0
    best_top1_err: float = float("inf")
    best_top5_err: float = float("inf")
    best_score: float = float("-inf")
    recent_losses: list[float] = field(default_factory=list)
    inside: dict[str, Any] = field(default_factory=dict)

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


@dataclass(frozen=True)
class Setting:
    """What a run depends on besides its configuration: compared when it is resumed.

    ``samples_per_iteration`` counts videos over all processes.
    """

    world: int
    data: str
    samples_per_iteration: int


def to_checkpoint(
    cfg: CfgNode,
    setting: Setting,
    progress: Progress,
    step: OptimizerStep,
    ema: ModelEmaV3 | None,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """A checkpoint of the run; ``epoch`` is 0-based as in PySlowFast.

    All ranks must call it; those of a sharded network but rank 0 get empty states.
    """
    network = unwrap(step.model)
    return {
        "epoch": progress.epoch - 1,
        "iteration": progress.step,
        "progress": {name: float(getattr(progress, name)) for name in _BEST},
        "inside_epoch": progress.inside,
        "recent_losses": progress.recent_losses,
        "model_state": full_model_state(network),
        "optimizer_state": full_optimizer_state(network, step.optimizer),
        "scaler_state": step.scaler.state_dict(),
        "ema_state": full_model_state(ema.module) if ema else None,
        "rng_state": {"ranks": gather_objects(step.runtime.rng_state())},
        "skipped_in_row": step.skipped_in_row,
        # Batches depend on (seed, epoch) alone; the position is all there is to keep.
        "sampler_state": {
            "epoch": progress.epoch,
            "iteration": progress.iteration,
            "samples": progress.iteration * setting.samples_per_iteration,
        },
        "world": setting.world,
        "data": setting.data,
        "cfg": cfg.dump(),
        "class_names": list(class_names),
    }


def from_checkpoint(
    content: dict[str, Any], setting: Setting, step: OptimizerStep, ema: ModelEmaV3 | None
) -> Progress:
    """Put a checkpoint of the same run back; gives how far it was."""
    network = unwrap(step.model)
    load_model_state(network, content["model_state"])
    load_optimizer_state(network, step.optimizer, content["optimizer_state"])
    if step.scaler.is_enabled() and content.get("scaler_state"):
        step.scaler.load_state_dict(content["scaler_state"])
    if ema is not None and content.get("ema_state"):
        load_model_state(ema.module, content["ema_state"])
    step.skipped_in_row = content.get("skipped_in_row", 0)
    ranks = content["rng_state"]["ranks"]
    if step.runtime.rank < len(ranks):
        step.runtime.set_rng_state(ranks[step.runtime.rank])
    progress = Progress(epoch=content["epoch"] + 1, step=content["iteration"])
    for name in _BEST:
        setattr(progress, name, content["progress"][name])
    progress.recent_losses = content["recent_losses"]
    position = content["sampler_state"]
    progress.iteration, progress.inside = position["iteration"], content["inside_epoch"]
    samples = progress.iteration * setting.samples_per_iteration
    if samples != position["samples"]:  # another batch: as far as the same number of videos
        progress.iteration = position["samples"] // setting.samples_per_iteration
        progress.inside = {}
    return progress
