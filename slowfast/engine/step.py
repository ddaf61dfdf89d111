"""One optimizer step: accumulation, mixed precision, clipping, finite check, average."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from timm.utils import ModelEmaV3
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.datasets.batch import Batch
from slowfast.engine.gradients import separate_gradients
from slowfast.engine.nonfinite import describe_gradients, describe_videos
from slowfast.engine.optim import set_learning_rate
from slowfast.engine.precision import build_autocast
from slowfast.engine.sharding import without_sync
from slowfast.engine.tasks.base import LossOutput, TaskModule
from slowfast.utils.distributed import sum_numbers, whole
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import Runtime

logger = get_logger(__name__)


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
        module: TaskModule,
        optimizer: torch.optim.Optimizer,
        runtime: Runtime,
        ema: ModelEmaV3 | None = None,
    ):
        self.model, self.module, self.optimizer = model, module, optimizer
        self.runtime, self.ema = runtime, ema
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
        batches: Sequence[Batch],
        lr: float,
        step: int,
        sizes: Sequence[Sequence[int]] | None = None,
    ) -> StepOutput:
        """Accumulate over ``batches``, which count by their sizes, and step with ``lr``.

        ``sizes[rank][i]`` are the labels of batch ``i`` on each rank, all of which take part with
        equally many batches: the step is that of one batch of all clips; the figures are means
        over them. UserError naming step, ranks and videos if loss or gradient is not finite
        (policy ``stop``).
        """
        set_learning_rate(self.optimizer, lr)
        self.optimizer.zero_grad(set_to_none=True)
        sizes = sizes or [[batch.size for batch in batches]]
        local = sizes[self.runtime.rank if len(sizes) > 1 else 0]
        # DDP averages over ranks: rescale, so that the result is the mean over all clips.
        factor = len(sizes) / sum(map(sum, sizes))
        outputs = self._accumulate(batches, [size * factor for size in local], step)
        loss, size, stats = _global_means(outputs, local)
        self.scaler.unscale_(self.optimizer)
        norm = self._clip_gradients()
        result = StepOutput(loss, norm, size, stats)
        # With a scaler an overflow of the gradient is expected now and then; it lowers the scale.
        overflow = self.scaler.is_enabled() and math.isfinite(loss)
        if not (math.isfinite(loss) and (math.isfinite(norm) or overflow)):
            self._handle_nonfinite(result, outputs, batches, lr, step)
            return result
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.skipped_in_row = 0
        if self.ema is not None:
            self.ema.update(self.model, step=step)
        return result

    def _accumulate(
        self, batches: Sequence[Batch], weights: Sequence[float], step: int
    ) -> list[LossOutput]:
        outputs = []
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            inputs = self.module.prepare(batch, "train", step)
            # Ranks exchange gradients once per step, with the last batch.
            with contextlib.nullcontext() if last else without_sync(self.model):
                with self.autocast():
                    output = self.module.loss(self.model, inputs)
                self.scaler.scale(output.loss * weights[number]).backward()
            separate_gradients(self.model)
            output.loss = output.loss.detach()
            outputs.append(output)
        return outputs

    def _clip_gradients(self) -> float:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.clip_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, self.clip_value)
        limit = self.clip_norm if self.clip_norm is not None else math.inf
        return float(whole(torch.nn.utils.clip_grad_norm_(parameters, limit)))

    def _handle_nonfinite(
        self,
        result: StepOutput,
        outputs: Sequence[LossOutput],
        batches: Sequence[Batch],
        lr: float,
        step: int,
    ) -> None:
        result.skipped = True
        self.skipped_in_row += 1
        scale = self.scaler.get_scale()
        self.scaler.update()  # it has unscaled; the next step must be allowed to
        text = (
            f"step {step}: loss {result.loss}, gradient norm {result.grad_norm}, lr {lr:.3g}, "
            f"loss scale {scale:g}"
        )
        if self.nan_policy == "skip" and self.skipped_in_row <= self.skip_limit:
            logger.warning("%s: skipped (%d in a row)", text, self.skipped_in_row)
            return
        raise UserError(
            Problem(
                f"the training has become non-finite at {text}\n"
                + describe_gradients(self.model)
                + describe_videos(outputs, batches),
                "lower SOLVER.BASE_LR, set SOLVER.CLIP_GRAD_L2NORM, or TRAIN.NAN_POLICY skip",
                "TRAIN.NAN_POLICY",
            )
        )


def _global_means(
    outputs: Sequence[LossOutput], sizes: Sequence[int]
) -> tuple[float, int, dict[str, float]]:
    """(mean loss, labels, mean figures) over all batches of all processes.

    A batch of size 0 is a dummy batch and is ignored.
    """
    names = sorted(outputs[0].stats)
    sums = [0.0] * (2 + len(names))
    for output, size in zip(outputs, sizes):
        values = [output.loss.item(), 1.0, *(output.stats[name] for name in names)]
        if size:
            sums = [total + value * size for total, value in zip(sums, values)]
    loss, size, *figures = sum_numbers(sums)
    return loss / size, int(size), {n: value / size for n, value in zip(names, figures)}
