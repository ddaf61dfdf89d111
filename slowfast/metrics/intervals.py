"""Means over episodes with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A mean and half the width of its 95 % interval, both in the unit of the values."""

    mean: float
    interval: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.interval:.2f}"


def mean_interval(values: Sequence[float]) -> Estimate:
    """Mean of n values and its 95 % interval as few-shot papers report it.

    Half the width is 1.96 times the population standard deviation, divided by sqrt(n). ValueError
    if there is no value.
    """
    if not len(values):
        raise ValueError("no values")
    numbers = np.asarray(values, dtype=float)
    return Estimate(float(numbers.mean()), float(1.96 * numbers.std() / math.sqrt(len(numbers))))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """``mean(b - a)`` with its interval: figures of two methods on the same episodes.

    ValueError if their numbers differ.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values are not pairs")
    return mean_interval(np.asarray(b, dtype=float) - np.asarray(a, dtype=float))
