"""Meters of an epoch: medians over the last steps for iteration lines, means for the epoch line."""

from __future__ import annotations

import statistics
from collections import deque
from typing import Any

from slowfast.utils.logging import format_eta
from slowfast.utils.runtime import ram_usage_gb


class WindowedMeter:
    """Median of the last ``window`` values; mean of all values, weighted by their sizes."""

    def __init__(self, window: int):
        self._recent: deque[float] = deque(maxlen=window)
        self._sum = self._size = 0.0

    @property
    def state(self) -> dict[str, Any]:
        """All values so far, for a checkpoint."""
        return {"recent": list(self._recent), "sum": self._sum, "size": self._size}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a :attr:`state`."""
        self._recent.extend(state["recent"])
        self._sum, self._size = state["sum"], state["size"]

    def add(self, value: float, size: int) -> None:
        self._recent.append(value)
        self._sum += value * size
        self._size += size

    @property
    def median(self) -> float:
        return statistics.median(self._recent)

    @property
    def mean(self) -> float:
        return self._sum / max(self._size, 1)


class EpochMeter:
    """Collects the figures of one epoch and formats them as PySlowFast's statistics lines.

    ``kind`` is train or val; ``log_period``: steps between two iteration lines.
    """

    def __init__(self, kind: str, epoch: int, max_epoch: int, steps: int, log_period: int):
        self.kind, self.steps, self.log_period = kind, steps, log_period
        self._epoch = f"{epoch + 1}/{max_epoch}"
        self._epochs_left = max_epoch - epoch - 1
        self._meters: dict[str, WindowedMeter] = {}
        self._last: dict[str, float] = {}
        self.size = 0

    def add(self, size: int, averaged: dict[str, float], last: dict[str, float] | None = None):
        """Add the figures of a step of ``size`` clips; those in ``last`` are not averaged."""
        self.size += size
        self._last = last or {}
        for name, value in averaged.items():
            self._meters.setdefault(name, WindowedMeter(self.log_period)).add(value, size)

    @property
    def state(self) -> dict[str, Any]:
        """All values so far, for a checkpoint."""
        meters = {name: meter.state for name, meter in self._meters.items()}
        return {"size": self.size, "last": dict(self._last), "meters": meters}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a :attr:`state`, if it is not empty."""
        if not state:
            return
        self.size, self._last = state["size"], dict(state["last"])
        for name, saved in state["meters"].items():
            self._meters.setdefault(name, WindowedMeter(self.log_period)).restore(saved)

    def medians(self) -> dict[str, float]:
        return {name: meter.median for name, meter in self._meters.items()}

    def means(self) -> dict[str, float]:
        return {name: meter.mean for name, meter in self._meters.items()}

    def is_due(self, step: int) -> bool:
        """Whether an iteration line follows 0-based ``step``."""
        return (step + 1) % self.log_period == 0

    def step_stats(self, step: int, seconds: float, memory_gb: float, **extra: Any) -> dict:
        """The iteration line after 0-based ``step``; ``seconds`` per step."""
        left = self.steps - step - 1
        if self.kind == "train":
            left += self._epochs_left * self.steps
        return {
            "_type": f"{self.kind}_iter",
            "epoch": self._epoch,
            "iter": f"{step + 1}/{self.steps}",
            "eta": format_eta(seconds * left),
            "gpu_mem": f"{memory_gb:.2f}G",
            **self.medians(),
            **self._last,
            **extra,
        }

    def epoch_stats(self, memory_gb: float, **extra: Any) -> dict:
        """The epoch line."""
        used, total = ram_usage_gb()
        return {
            "_type": f"{self.kind}_epoch",
            "epoch": self._epoch,
            "gpu_mem": f"{memory_gb:.2f}G",
            "RAM": f"{used:.2f}/{total:.2f}G",
            **self.means(),
            **self._last,
            **extra,
        }
