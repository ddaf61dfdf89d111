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
from slowfast.engine.average import update_average_if
from slowfast.engine.gradients import separate_gradients
from slowfast.engine.nonfinite import describe_norms, describe_videos
from slowfast.engine.optim import set_learning_rate, skips_on_device, step_unless
from slowfast.engine.pending import PendingStep
from slowfast.engine.precision import build_autocast, build_scaler
from slowfast.engine.sharding import without_sync
from slowfast.engine.tasks.base import LossOutput, TaskModule
from slowfast.utils.distributed import gather_numbers, whole
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import Runtime

logger = get_logger(__name__)


@dataclass
class StepOutput:
    """What step ``step`` did: mean loss and figures over its clips, the gradient norm before
    clipping; ``skipped``: it changed nothing, because its gradient was not finite."""

    loss: float
    grad_norm: float
    size: int
    stats: dict[str, float]
    skipped: bool = False
    step: int = 0


class OptimizerStep:
    """Turns a group of batches into one step of the optimizer.

    :meth:`launch` gives a step to the device and does not wait for it; :meth:`finish` reads its
    figures when they have arrived. Whether a step is taken is decided on the device.
    """

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
        self.scaler = build_scaler(cfg, runtime)
        self._names = {parameter: name for name, parameter in model.named_parameters()}

    def __call__(
        self,
        batches: Sequence[Batch],
        lr: float,
        step: int,
        sizes: Sequence[Sequence[int]] | None = None,
    ) -> StepOutput:
        """:meth:`launch` and :meth:`finish` at once, for all ranks together."""
        pending = self.launch(batches, lr, step, sizes)
        return self.finish(pending, gather_numbers(pending.message()))

    def launch(
        self,
        batches: Sequence[Batch],
        lr: float,
        step: int,
        sizes: Sequence[Sequence[int]] | None = None,
    ) -> PendingStep:
        """Accumulate over ``batches``, which count by their sizes, and step with ``lr``.

        ``sizes[rank][i]`` are the labels of batch ``i`` on each rank, all of which take part with
        equally many batches: the step is that of one batch of all clips; the figures are means
        over them. A step whose loss or gradient is not finite on any rank changes no weight.
        """
        set_learning_rate(self.optimizer, lr)
        self.optimizer.zero_grad(set_to_none=True)
        sizes = sizes or [[batch.size for batch in batches]]
        local = sizes[self.runtime.rank if len(sizes) > 1 else 0]
        # DDP averages over ranks: rescale, so that the result is the mean over all clips.
        factor = len(sizes) / sum(map(sum, sizes))
        outputs = self._accumulate(batches, [size * factor for size in local], step)
        self.scaler.unscale_(self.optimizer)
        parameters, norms, norm = self._clip_gradients()
        finite = norm.isfinite()
        scale = self.scaler.scale(torch.ones_like(norm))
        self._step_if(finite, step)
        return PendingStep.launched(
            outputs,
            batches,
            norm,
            finite,
            scale,
            step=step,
            lr=lr,
            sizes=sizes,
            local=local,
            parameters=[self._names[parameter] for parameter in parameters],
            norms=norms,
        )

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
                loss = self.scaler.scale(output.loss * weights[number])
                # 1, or NaN if the loss is not finite: then no gradient is, on any rank, and all
                # of them skip the step without a word to each other.
                loss.backward(output.loss.detach() * 0 + 1)
            separate_gradients(self.model)
            output.loss = output.loss.detach()
            outputs.append(output)
        return outputs

    @torch.no_grad()
    def _clip_gradients(self) -> tuple[list[nn.Parameter], torch.Tensor, torch.Tensor]:
        """(parameters that have a gradient, its norm for each, the norm of the whole gradient)."""
        groups = self.optimizer.param_groups
        parameters = [p for group in groups for p in group["params"] if p.grad is not None]
        gradients = [parameter.grad for parameter in parameters]
        if self.clip_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, self.clip_value)
        # As torch.nn.utils.get_total_norm, which does not give the norms of the parameters.
        norms = torch.stack(torch._foreach_norm(gradients))
        norm = torch.linalg.vector_norm(norms)
        if self.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, norm)
        return parameters, norms, whole(norm)

    def _step_if(self, finite: torch.Tensor, step: int) -> None:
        """Let optimizer and average take the step if the gradient is ``finite``."""
        decided = None  # on the device, without the host
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
        elif skips_on_device(self.optimizer):
            step_unless(self.optimizer, ~finite)
        else:
            decided = bool(finite)
            if decided:
                self.optimizer.step()
        self.scaler.update()
        if self.ema is None or decided is False:
            return
        if decided is None and self.nan_policy == "skip":
            update_average_if(finite, self.ema, self.model, step)
        else:
            self.ema.update(self.model, step=step)

    def finish(self, pending: PendingStep, rows: Sequence[Sequence[float]]) -> StepOutput:
        """The output of a step; ``rows`` are the messages of all ranks.

        UserError naming step, ranks and videos if loss or gradient was not finite (policy
        ``stop``, or too many steps that were skipped one after the other).
        """
        finite, *sums = [sum(column) for column in zip(*rows)]
        size = sum(map(sum, pending.sizes))
        loss, *figures = [total / size for total in sums]
        stats = dict(zip(pending.names, figures))
        result = StepOutput(loss, pending.grad_norm, size, stats, step=pending.step)
        # With a scaler an overflow of the gradient is expected now and then; it lowers the scale.
        overflow = self.scaler.is_enabled() and math.isfinite(loss)
        if math.isfinite(loss) and (finite == len(rows) or overflow):
            self.skipped_in_row = 0
        else:
            self._handle_nonfinite(result, pending)
        return result

    def _handle_nonfinite(self, result: StepOutput, pending: PendingStep) -> None:
        result.skipped = True
        self.skipped_in_row += 1
        text = (
            f"step {pending.step}: loss {result.loss}, gradient norm {result.grad_norm}, "
            f"lr {pending.lr:.3g}, loss scale {pending.scale:g}"
        )
        if self.nan_policy == "skip" and self.skipped_in_row <= self.skip_limit:
            logger.warning("%s: skipped (%d in a row)", text, self.skipped_in_row)
            return
        raise UserError(
            Problem(
                f"the training has become non-finite at {text}\n"
                + describe_norms(pending.parameter_norms())
                + describe_videos(pending.nonfinite_batches(), pending.paths),
                "lower SOLVER.BASE_LR, set SOLVER.CLIP_GRAD_L2NORM, or TRAIN.NAN_POLICY skip",
                "TRAIN.NAN_POLICY",
            )
        )
