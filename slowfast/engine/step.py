"""One optimizer step: accumulation, mixed precision, clipping, finite check, average."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.engine.optim import set_learning_rate
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import Runtime

logger = get_logger(__name__)


@dataclass
class LossOutput:
    """What a task gives for one batch: the mean ``loss`` over ``size`` clips, and figures."""

    loss: torch.Tensor
    size: int
    stats: dict[str, float] = field(default_factory=dict)


@dataclass
class StepOutput:
    """What a step did: mean loss and figures over its clips, the gradient norm before clipping."""

    loss: float
    grad_norm: float
    size: int
    stats: dict[str, float]
    skipped: bool = False


class OptimizerStep:
    """Turns a group of batches into one step of the optimizer."""

    def __init__(
        self,
        cfg: CfgNode,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        runtime: Runtime,
        ema: ModelEmaV3 | None = None,
    ):
        self.model, self.optimizer, self.runtime, self.ema = model, optimizer, runtime, ema
        self.clip_value = cfg.SOLVER.CLIP_GRAD_VAL
        self.clip_norm = cfg.SOLVER.CLIP_GRAD_L2NORM
        self.nan_policy, self.skip_limit = cfg.TRAIN.NAN_POLICY, cfg.TRAIN.NAN_SKIP_LIMIT
        self.skipped_in_row = 0
        self.autocast = build_autocast(cfg, runtime)
        half = cfg.TRAIN.MIXED_PRECISION and runtime.amp_dtype(cfg.TRAIN.AMP_DTYPE)
        self.scaler = torch.amp.GradScaler(
            runtime.device.type, enabled=half is torch.float16 and runtime.on_gpu
        )

    def __call__(
        self,
        batches: Sequence[dict[str, Any]],
        loss_of: Callable[[dict[str, Any]], LossOutput],
        lr: float,
        step: int,
    ) -> StepOutput:
        """Accumulate over ``batches``, which count by their sizes, and step with ``lr``.

        UserError naming step and videos if loss or gradient is not finite (policy ``stop``).
        """
        set_learning_rate(self.optimizer, lr)
        self.optimizer.zero_grad(set_to_none=True)
        outputs = self._accumulate(batches, loss_of)
        size = sum(output.size for output in outputs)
        loss = sum(output.loss.item() * output.size for output in outputs) / size
        self.scaler.unscale_(self.optimizer)
        norm = self._clip()
        result = StepOutput(loss, norm, size, _mean_stats(outputs, size))
        # With a scaler an overflow of the gradient is expected now and then; it lowers the scale.
        overflow = self.scaler.is_enabled() and math.isfinite(loss)
        if not (math.isfinite(loss) and (math.isfinite(norm) or overflow)):
            self._not_finite(result, batches, lr, step)
            return result
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.skipped_in_row = 0
        if self.ema is not None:
            self.ema.update(self.model, step=step)
        return result

    def _accumulate(
        self,
        batches: Sequence[dict[str, Any]],
        loss_of: Callable[[dict[str, Any]], LossOutput],
    ) -> list[LossOutput]:
        sizes = [len(batch["label"]) for batch in batches]
        outputs = []
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            # Gradients of several processes need to meet once a step only.
            wait = getattr(self.model, "no_sync", contextlib.nullcontext)
            with contextlib.nullcontext() if last else wait():
                with self.autocast():
                    output = loss_of(batch)
                share = sizes[number] / sum(sizes)
                self.scaler.scale(output.loss * share).backward()
            output.loss = output.loss.detach()
            outputs.append(output)
        return outputs

    def _clip(self) -> float:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.clip_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, self.clip_value)
        limit = self.clip_norm if self.clip_norm is not None else math.inf
        return float(torch.nn.utils.clip_grad_norm_(parameters, limit))

    def _not_finite(
        self, result: StepOutput, batches: Sequence[dict[str, Any]], lr: float, step: int
    ) -> None:
        result.skipped = True
        self.skipped_in_row += 1
        self.scaler.update()  # it has unscaled; the next step must be allowed to
        paths = [path for batch in batches for path in batch["path"]]
        text = (
            f"step {step}: loss {result.loss}, gradient norm {result.grad_norm}, lr {lr:.3g}, "
            f"loss scale {self.scaler.get_scale():g}"
        )
        if self.nan_policy == "skip" and self.skipped_in_row <= self.skip_limit:
            logger.warning("%s: skipped (%d in a row)", text, self.skipped_in_row)
            return
        layers = ", ".join(_bad_layers(self.model)[:8]) or "none"
        raise UserError(
            Problem(
                f"the training has become non-finite at {text}\n"
                f"    layers with non-finite gradients: {layers}\n"
                f"    videos of the step: {', '.join(paths[:16])}",
                "lower SOLVER.BASE_LR, set SOLVER.CLIP_GRAD_L2NORM, or TRAIN.NAN_POLICY skip",
                "TRAIN.NAN_POLICY",
            )
        )


def build_autocast(cfg: CfgNode, runtime: Runtime) -> Callable[[], torch.autocast]:
    """A context in which the forward pass runs: autocast if MIXED_PRECISION is on."""
    dtype = runtime.amp_dtype(cfg.TRAIN.AMP_DTYPE)
    enabled = cfg.TRAIN.MIXED_PRECISION
    return lambda: torch.autocast(runtime.device.type, dtype=dtype, enabled=enabled)


def _mean_stats(outputs: list[LossOutput], size: int) -> dict[str, float]:
    return {
        name: sum(output.stats[name] * output.size for output in outputs) / size
        for name in outputs[0].stats
    }


def _bad_layers(model: nn.Module) -> list[str]:
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all()
    ]
