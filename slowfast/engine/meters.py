"""Figures of an epoch: medians over the last steps for a line, means over clips at the end."""

from __future__ import annotations

import statistics
from collections import deque
from typing import Any

from slowfast.utils.logging import format_eta
from slowfast.utils.runtime import ram_usage_gb


class WindowedMeter:
    """Median over the last ``period`` values, mean over all values by their sizes."""

    def __init__(self, period: int):
        self._recent: deque[float] = deque(maxlen=period)
        self._sum = self._size = 0.0

    @property
    def state(self) -> dict[str, Any]:
        """Everything collected so far, for a checkpoint."""
        return {"recent": list(self._recent), "sum": self._sum, "size": self._size}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a :attr:`state`."""
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
    """Collects the figures of one epoch and words them as PySlowFast's statistics lines.

    ``kind`` is train or val.
    """

    def __init__(self, kind: str, epoch: int, max_epoch: int, steps: int, period: int):
        self.kind, self.steps, self.period = kind, steps, period
        self._epoch = f"{epoch + 1}/{max_epoch}"
        self._epochs_left = max_epoch - epoch - 1
        self._meters: dict[str, WindowedMeter] = {}
        self._last: dict[str, float] = {}
        self.size = 0

    def add(self, size: int, averaged: dict[str, float], last: dict[str, float] | None = None):
        """Figures of a step of ``size`` clips; those in ``last`` are shown as they are."""
        self.size += size
        self._last = last or {}
        for name, value in averaged.items():
            self._meters.setdefault(name, WindowedMeter(self.period)).add(value, size)

    @property
    def state(self) -> dict[str, Any]:
        """Everything collected so far, for a checkpoint."""
        meters = {name: meter.state for name, meter in self._meters.items()}
        return {"size": self.size, "last": dict(self._last), "meters": meters}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a :attr:`state`, if it is not empty."""
        if not state:
            return
        self.size, self._last = state["size"], dict(state["last"])
        for name, saved in state["meters"].items():
            self._meters.setdefault(name, WindowedMeter(self.period)).restore(saved)

    def medians(self) -> dict[str, float]:
        return {name: meter.median for name, meter in self._meters.items()}

    def means(self) -> dict[str, float]:
        return {name: meter.mean for name, meter in self._meters.items()}

    def is_due(self, step: int) -> bool:
        """Whether an iteration line follows 0-based ``step``."""
        return (step + 1) % self.period == 0

    def step_stats(self, step: int, seconds: float, memory_gb: float, **extra: Any) -> dict:
        """The iteration line after 0-based ``step``."""
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
