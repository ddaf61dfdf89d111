"""Means with their 95 % interval, computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slowfast.metrics.intervals import Estimate, mean_interval, paired_difference


def test_by_hand():
    """Values 1, 2, 3, 4: mean 2.5, population variance 1.25, n 4."""
    estimate = mean_interval([1, 2, 3, 4])
    assert estimate.mean == 2.5
    assert estimate.interval == pytest.approx(1.96 * math.sqrt(1.25) / 2)


def test_equal_values_have_no_interval():
    assert mean_interval([40.0] * 5) == Estimate(40.0, 0.0)
    assert mean_interval([7.0]) == Estimate(7.0, 0.0)


def test_four_times_the_episodes_halve_the_interval():
    values = [0.0, 100.0, 100.0, 60.0]
    assert mean_interval(values * 4).interval == pytest.approx(mean_interval(values).interval / 2)


def test_the_interval_covers_the_mean_in_95_of_100_cases():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        mean, interval = mean_interval(rng.normal(50.0, 10.0, 200))
        covered += abs(mean - 50.0) <= interval
    assert abs(covered / 2000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_differences_of_the_same_episodes():
    """b - a is 1, 1, 4: mean 2, population variance 2."""
    estimate = paired_difference([1.0, 5.0, 2.0], [2.0, 6.0, 6.0])
    assert estimate.mean == 2.0 and estimate.interval == pytest.approx(1.96 * math.sqrt(2 / 3))
    assert paired_difference([2.0, 6.0, 6.0], [1.0, 5.0, 2.0]).mean == -2.0


def test_unequal_numbers_cannot_be_paired():
    with pytest.raises(ValueError, match="1 and 2 values are not pairs"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_text():
    assert str(Estimate(63.456, 0.1249)) == "63.46 ± 0.12"
