"""What changes during a run, and its way into a checkpoint and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from timm.utils import ModelEmaV3
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.engine.step import OptimizerStep


@dataclass
class Progress:
    """How far a run is: finished epochs and steps, and the best validation so far."""

    epoch: int = 0
    step: int = 0
    best_top1_err: float = float("inf")
    best_top5_err: float = float("inf")
    best_score: float = float("-inf")


def unwrap(model: nn.Module) -> nn.Module:
    """The network inside torch.compile and DistributedDataParallel wrappers."""
    while hasattr(model, "_orig_mod") or isinstance(model, nn.parallel.DistributedDataParallel):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    return model


def to_checkpoint(
    cfg: CfgNode,
    progress: Progress,
    step: OptimizerStep,
    ema: ModelEmaV3 | None,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """A checkpoint of the run; ``epoch`` is 0-based as in PySlowFast."""
    return {
        "epoch": progress.epoch - 1,
        "iteration": progress.step,
        "progress": {k: float(v) for k, v in vars(progress).items()},
        "model_state": unwrap(step.model).state_dict(),
        "optimizer_state": step.optimizer.state_dict(),
        "scaler_state": step.scaler.state_dict(),
        "ema_state": ema.module.state_dict() if ema else None,
        "rng_state": step.runtime.rng_state(),
        # Batches depend on (seed, epoch) alone; the position is all there is to keep.
        "sampler_state": {"epoch": progress.epoch, "batch": 0},
        "cfg": cfg.dump(),
        "class_names": list(class_names),
    }


def from_checkpoint(
    content: dict[str, Any], step: OptimizerStep, ema: ModelEmaV3 | None
) -> Progress:
    """Put a checkpoint of the same run back; gives how far it was."""
    unwrap(step.model).load_state_dict(content["model_state"])
    step.optimizer.load_state_dict(content["optimizer_state"])
    if step.scaler.is_enabled() and content.get("scaler_state"):
        step.scaler.load_state_dict(content["scaler_state"])
    if ema is not None and content.get("ema_state"):
        ema.module.load_state_dict(content["ema_state"])
    if "rng_state" in content:
        step.runtime.set_rng_state(content["rng_state"])
    saved = content.get("progress", {})
    progress = Progress(epoch=content["epoch"] + 1, step=content.get("iteration", 0))
    for name in ("best_top1_err", "best_top5_err", "best_score"):
        setattr(progress, name, saved.get(name, getattr(progress, name)))
    return progress
