"""What the steps of an epoch leave in the log, in ``stats.jsonl`` and in TensorBoard."""

from __future__ import annotations

from typing import Any

from slowfast.config.node import CfgNode
from slowfast.engine.meters import EpochMeter
from slowfast.engine.step import StepOutput
from slowfast.engine.writer import ScalarWriter
from slowfast.utils.errors import UserError
from slowfast.utils.logging import log_json_stats
from slowfast.utils.progress import Progress, StepTimer
from slowfast.utils.runtime import Runtime

_SCALARS = {"loss": "loss", "lr": "lr", "top1_err": "Top1_err", "top5_err": "Top5_err"}


class EpochJournal:
    """Records the steps of one epoch; its :attr:`state` goes into a checkpoint inside it."""

    def __init__(
        self, cfg: CfgNode, runtime: Runtime, writer: ScalarWriter, epoch: int, steps: int
    ):
        self.cfg, self.runtime, self.writer = cfg, runtime, writer
        self.epoch, self.steps = epoch, steps
        epochs = cfg.SOLVER.MAX_EPOCH
        self.meter = EpochMeter("train", epoch, epochs, steps, cfg.LOG_PERIOD)
        self.bar = Progress(f"train {epoch + 1}/{epochs}", steps, cfg.LOG_PERIOD)
        self.timer = StepTimer()
        self.finished = False

    @property
    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs: numbers, texts, lists and dicts."""
        return {"meter": self.meter.state}

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go on from a :attr:`state`."""
        if state:
            self.meter.restore(state["meter"])

    def record(self, output: StepOutput, number: int, lr: float, step: int) -> None:
        """Take note of iteration ``number`` of the epoch, ``step`` of the run."""
        self.timer.step_done(output.size)
        figures = {"loss": output.loss, **output.stats}
        last = {"lr": lr, "grad_norm": output.grad_norm}
        if not output.skipped:
            self.meter.add(output.size, figures, last)
        if self.meter.is_due(number) and self.meter.size:
            self._log(
                self.meter.step_stats(
                    number, self.timer.step, self.runtime.gpu_memory_gb(), **self._times()
                )
            )
        shown = figures | last
        self.writer.add(
            {f"Train/{new}": shown[old] for old, new in _SCALARS.items() if old in shown}, step
        )
        left = (self.cfg.SOLVER.MAX_EPOCH - self.epoch) * self.steps - number - 1
        times = self.timer.describe(self.runtime.peak_memory_gb(), left)
        self.bar.update(number + 1, f"loss {output.loss:.3f}  lr {lr:.2e}  {times}")

    def finish(self, bad_items: int, source: str) -> None:
        """The epoch line; UserError if the epoch had no readable video."""
        self.bar.close()
        self.finished = True
        if self.meter.size == 0:
            raise UserError("no video could be read in a whole epoch", "see bad_items.tsv", source)
        self._log(
            self.meter.epoch_stats(
                self.runtime.gpu_memory_gb(),
                **self._times(),
                bad_items=bad_items,
                clips_per_second=self.timer.clips_per_second,
            )
        )

    def _times(self) -> dict[str, float]:
        timer = self.timer
        return {"dt": timer.step, "dt_data": timer.wait, "dt_net": timer.compute}

    def _log(self, stats: dict[str, Any]) -> None:
        if self.runtime.is_main:
            log_json_stats(stats, self.cfg.OUTPUT_DIR)
