"""Means, intervals and paired differences by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slowfast.metrics.intervals import Estimate, mean_interval, paired_difference


def test_mean_and_interval_by_hand():
    """Values 0, 0, 100, 100: population deviation 50, over sqrt(4)."""
    assert mean_interval([0, 0, 100, 100]) == Estimate(50.0, pytest.approx(1.96 * 25))


def test_interval_shrinks_with_the_square_root_of_the_number():
    few, many = mean_interval([20, 60] * 8), mean_interval([20, 60] * 32)
    assert few.mean == many.mean == 40
    assert few.interval == pytest.approx(2 * many.interval)


def test_equal_values_have_no_interval():
    assert mean_interval([60.0] * 7) == Estimate(60.0, 0.0)
    assert mean_interval([60.0]) == Estimate(60.0, 0.0)


def test_difference_is_b_minus_a_and_paired():
    """The values vary far more than their difference."""
    a = np.array([10.0, 90.0, 30.0, 70.0])
    difference = paired_difference(a, a + np.array([1.0, 3.0, 1.0, 3.0]))
    assert difference == Estimate(2.0, pytest.approx(1.96 * 1 / math.sqrt(4)))
    assert paired_difference(a + 5, a).mean == -5


def test_invalid_values():
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])
    with pytest.raises(ValueError, match="2 and 1 values are not pairs"):
        paired_difference([1.0, 2.0], [1.0])


def test_text():
    assert str(Estimate(61.234, 0.456)) == "61.23 ± 0.46"
