"""What the steps of an epoch leave in the log."""

from __future__ import annotations

from typing import Any

from slowfast.config.node import CfgNode
from slowfast.engine.loggers import Loggers
from slowfast.engine.meters import EpochMeter
from slowfast.engine.step import StepOutput
from slowfast.metrics.evaluators import EvalResult, is_error
from slowfast.utils.errors import UserError
from slowfast.utils.progress import ProgressBar, StepTimer
from slowfast.utils.runtime import Runtime


class EpochLogger:
    """Logs the ``steps`` of one training epoch of ``epochs``; ``meter`` holds its statistics."""

    def __init__(
        self, cfg: CfgNode, runtime: Runtime, loggers: Loggers, epoch: int, epochs: int, steps: int
    ):
        self.runtime, self.loggers, self.steps = runtime, loggers, steps
        self._epochs_left = epochs - epoch
        self.meter = EpochMeter("train", epoch, epochs, steps, cfg.LOG_PERIOD)
        self.bar = ProgressBar(f"train {epoch + 1}/{epochs}", steps, cfg.LOG_PERIOD)
        self.timer = StepTimer()
        self.finished = False

    def log_step(self, output: StepOutput, number: int, lr: float) -> None:
        """Log iteration ``number`` of the epoch, whose figures have arrived."""
        step = output.step + 1  # steps of the run that are done
        figures = {"loss": output.loss, **output.stats}
        last = {"lr": lr, "grad_norm": output.grad_norm}
        if not output.skipped:
            self.meter.add(output.size, figures, last)
        if self.meter.is_due(number) and self.meter.size:
            memory = self.runtime.gpu_memory_gb()
            line = self.meter.step_stats(number, self.timer.step, memory, **self.timer.figures)
            self.loggers.log("train_iter", line, step)
        self.loggers.log("train_step", figures | last, step)
        left = self._epochs_left * self.steps - number - 1
        times = self.timer.describe(self.runtime.peak_memory_gb(), left)
        self.bar.update(number + 1, f"loss {output.loss:.3f}  lr {lr:.2e}  {times}")

    def finish(self, bad_items: int, source: str, step: int) -> None:
        """Log the epoch line; UserError if the epoch had no readable video."""
        self.bar.close()
        self.finished = True
        if self.meter.size == 0:
            raise UserError("no video could be read in a whole epoch", "see bad_items.tsv", source)
        line = self.meter.epoch_stats(
            self.runtime.gpu_memory_gb(),
            **self.timer.figures,
            bad_items=bad_items,
            clips_per_second=self.timer.clips_per_second,
        )
        self.loggers.log("train_epoch", line, step)


class ValObserver:
    """Logs the batches of a validation, and its result."""

    def __init__(
        self,
        cfg: CfgNode,
        runtime: Runtime,
        loggers: Loggers,
        epoch: int,
        epochs: int,
        batches: int,
        step: int,
    ):
        self.runtime, self.loggers, self.step = runtime, loggers, step
        self.title, self.log_every = f"val {epoch + 1}/{epochs}", cfg.LOG_PERIOD
        self.meter = EpochMeter("val", epoch, epochs, batches, cfg.LOG_PERIOD)

    def on_batch(self, step: int, figures: dict[str, float], size: int, timer: StepTimer) -> None:
        if size:
            self.meter.add(size, figures)
        if self.meter.is_due(step) and self.meter.size:
            memory = self.runtime.gpu_memory_gb()
            line = self.meter.step_stats(
                step, timer.step, memory, time_diff=timer.step, wait=timer.wait_share
            )
            self.loggers.log("val_iter", line, self.step)

    def log_result(self, result: EvalResult, best: dict[str, float], bad_items: int) -> None:
        """Log the result of the whole pass, with the best errors so far."""
        line: dict[str, Any] = self.meter.epoch_stats(self.runtime.gpu_memory_gb())
        line |= result.metrics | {result.unit: result.items, "bad_items": bad_items}
        line |= {f"min_{name}": best[name] for name in result.metrics if is_error(name)}
        self.loggers.log("val_epoch", line, self.step)
