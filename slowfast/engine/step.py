"""One optimizer step: accumulation, mixed precision, clipping, finite check, average."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.distributed.fsdp import FSDPModule

from slowfast.config.node import CfgNode
from slowfast.engine.optim import set_learning_rate
from slowfast.engine.sharding import whole
from slowfast.utils.distributed import gather_objects, sum_numbers
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
        sizes: Sequence[Sequence[int]] | None = None,
    ) -> StepOutput:
        """Accumulate over ``batches``, which count by their sizes, and step with ``lr``.

        ``sizes[rank][i]`` are the clips of batch ``i`` on each rank, all of which take part with
        equally many batches: the step is that of one batch of all clips; the figures are means
        over them. UserError naming step, ranks and videos if loss or gradient is not finite
        (policy ``stop``).
        """
        set_learning_rate(self.optimizer, lr)
        self.optimizer.zero_grad(set_to_none=True)
        sizes = sizes or [[len(batch["label"]) for batch in batches]]
        own = sizes[self.runtime.rank if len(sizes) > 1 else 0]
        # Processes average their gradients: the factor undoes that, the sizes decide.
        factor = len(sizes) / sum(map(sum, sizes))
        outputs = self._accumulate(batches, loss_of, [size * factor for size in own])
        loss, size, stats = _global_means(outputs, own)
        self.scaler.unscale_(self.optimizer)
        norm = self._clip()
        result = StepOutput(loss, norm, size, stats)
        # With a scaler an overflow of the gradient is expected now and then; it lowers the scale.
        overflow = self.scaler.is_enabled() and math.isfinite(loss)
        if not (math.isfinite(loss) and (math.isfinite(norm) or overflow)):
            self._not_finite(result, outputs, batches, lr, step)
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
        shares: Sequence[float],
    ) -> list[LossOutput]:
        outputs = []
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            # Gradients of several processes need to meet once a step only.
            with contextlib.nullcontext() if last else without_sync(self.model):
                with self.autocast():
                    output = loss_of(batch)
                self.scaler.scale(output.loss * shares[number]).backward()
            output.loss = output.loss.detach()
            outputs.append(output)
        return outputs

    def _clip(self) -> float:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.clip_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, self.clip_value)
        limit = self.clip_norm if self.clip_norm is not None else math.inf
        return float(whole(torch.nn.utils.clip_grad_norm_(parameters, limit)))

    def _not_finite(
        self,
        result: StepOutput,
        outputs: Sequence[LossOutput],
        batches: Sequence[dict[str, Any]],
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
                + _describe_videos(outputs, batches),
                "lower SOLVER.BASE_LR, set SOLVER.CLIP_GRAD_L2NORM, or TRAIN.NAN_POLICY skip",
                "TRAIN.NAN_POLICY",
            )
        )


def build_autocast(cfg: CfgNode, runtime: Runtime) -> Callable[[], torch.autocast]:
    """A context in which the forward pass runs: autocast if MIXED_PRECISION is on."""
    dtype = runtime.amp_dtype(cfg.TRAIN.AMP_DTYPE)
    enabled = cfg.TRAIN.MIXED_PRECISION
    return lambda: torch.autocast(runtime.device.type, dtype=dtype, enabled=enabled)


def without_sync(model: nn.Module) -> contextlib.AbstractContextManager[None]:
    """A context in which backward passes leave the gradients of each process alone."""
    if isinstance(model, FSDPModule):
        return _sharded_without_sync(model)
    return getattr(model, "no_sync", contextlib.nullcontext)()


@contextlib.contextmanager
def _sharded_without_sync(model: FSDPModule) -> Iterator[None]:
    model.set_requires_gradient_sync(False)
    yield
    model.set_requires_gradient_sync(True)


def _global_means(
    outputs: Sequence[LossOutput], sizes: Sequence[int]
) -> tuple[float, int, dict[str, float]]:
    """(mean loss, clips, mean figures) over all clips of all processes.

    A batch of size 0 is a stand-in: its loss counts nothing, whatever it is.
    """
    names = sorted(outputs[0].stats)
    sums = [0.0] * (2 + len(names))
    for output, size in zip(outputs, sizes):
        values = [output.loss.item(), 1.0, *(output.stats[name] for name in names)]
        if size:
            sums = [total + value * size for total, value in zip(sums, values)]
    loss, size, *figures = sum_numbers(sums)
    return loss / size, int(size), {n: value / size for n, value in zip(names, figures)}


def describe_gradients(model: nn.Module, shown: int = 8) -> str:
    """The gradient norm of the layers that matter: those not finite, else the largest."""
    norms = {
        name: float(whole(parameter.grad.float().norm()))
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    bad = [name for name, norm in norms.items() if not math.isfinite(norm)]
    good = sorted((n for n in norms if n not in bad), key=norms.get, reverse=True)
    lines = [f"    gradient norm by layer: {len(bad)} of {len(norms)} are not finite\n"]
    for name in [*bad[:shown], *good[: max(shown - len(bad), 3)]]:
        lines.append(f"        {norms[name]:10.4g}  {name}\n")
    return "".join(lines)


def _describe_videos(
    outputs: Sequence[LossOutput], batches: Sequence[dict[str, Any]], shown: int = 16
) -> str:
    """The videos of the step, those of batches with a non-finite loss first, by rank."""
    rows = [
        (not math.isfinite(output.loss.item()), list(dict.fromkeys(batch["path"])))
        for output, batch in zip(outputs, batches)
    ]
    everywhere = gather_objects(rows)
    lines = []
    for rank, of_rank in enumerate(everywhere):
        place = f" of rank {rank}" if len(everywhere) > 1 else ""
        for bad, paths in sorted(of_rank, key=lambda row: not row[0]):
            loss = "not finite" if bad else "finite"
            more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
            lines.append(f"    videos{place}, loss {loss}: {', '.join(paths[:shown])}{more}")
    return "\n".join(lines)
