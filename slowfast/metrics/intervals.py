"""Means over tasks with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A mean and half the width of its 95 % interval, in the values' unit."""

    mean: float
    interval: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.interval:.2f}"


def mean_interval(values: Sequence[float]) -> Estimate:
    """Mean and 1.96 population standard deviations over sqrt(n), as few-shot papers report."""
    numbers = np.asarray(values, dtype=float)
    return Estimate(float(numbers.mean()), float(1.96 * numbers.std() / math.sqrt(len(numbers))))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """``mean(b - a)`` over the same tasks, with its interval."""
    assert len(a) == len(b), (len(a), len(b))
    return mean_interval(np.asarray(b, dtype=float) - np.asarray(a, dtype=float))
