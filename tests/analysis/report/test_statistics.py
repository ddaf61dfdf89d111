"""Intervals against plain resampling, paired tests and orders against cases computed by hand."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from slowfast.analysis.report.statistics import (
    accuracy_intervals,
    confused_pairs,
    confusion_order,
    mcnemar,
    paired_test,
)


def test_intervals_are_those_of_drawing_videos_one_by_one():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 3, 7], [30, 20, 5])
    correct = rng.random(55) < 0.7
    accuracy, mean_class = accuracy_intervals(labels, correct, repeats=4000)
    drawn = rng.integers(0, 55, (4000, 55))
    plain = 100 * correct[drawn].mean(1)
    per_class = []
    for rows in drawn:
        shares = [correct[rows][labels[rows] == c].mean() for c in set(labels[rows].tolist())]
        per_class.append(100 * np.mean(shares))
    for found, expected in ((accuracy, plain), (mean_class, per_class)):
        low, high = np.percentile(expected, [2.5, 97.5])
        assert abs(found.low - low) < 2 and abs(found.high - high) < 2
    assert accuracy.value == pytest.approx(100 * correct.mean())
    shares = [correct[labels == c].mean() for c in (0, 3, 7)]
    assert mean_class.value == pytest.approx(100 * np.mean(shares))


def test_intervals_repeat_and_end_where_nothing_varies():
    labels, correct = np.arange(8) % 4, np.arange(8) % 3 > 0
    assert accuracy_intervals(labels, correct) == accuracy_intervals(labels, correct)
    assert accuracy_intervals(labels, correct) != accuracy_intervals(labels, correct, seed=5)
    for interval in accuracy_intervals(labels, np.ones(8, bool)):
        assert interval == (100, 100, 100)
    with pytest.raises(ValueError, match="no videos"):
        accuracy_intervals(np.array([], int), np.array([], bool))


@pytest.mark.parametrize("a, b", [(0, 0), (1, 0), (3, 9), (9, 3), (40, 60)])
def test_mcnemar_is_the_binomial_test(a, b):
    tail = sum(comb(a + b, k) for k in range(min(a, b) + 1)) / 2 ** (a + b)
    assert mcnemar(a, b) == pytest.approx(min(1, 2 * tail))


def test_paired_comparison():
    a = np.array([True] * 50 + [False] * 50)
    b = np.array([True] * 45 + [False] * 20 + [True] * 35)
    result = paired_test(a, b)
    assert (result.only_a, result.only_b) == (5, 35)
    assert result.difference.value == pytest.approx(30)
    # Normal approximation: the deviation of a difference of shares of the same videos.
    half = 1.96 * 100 * np.sqrt((0.05 + 0.35 - 0.3**2) / 100)
    assert result.difference.low == pytest.approx(30 - half, abs=1.5)
    assert result.difference.high == pytest.approx(30 + half, abs=1.5)
    assert result.p_value == mcnemar(5, 35) < 0.001
    with pytest.raises(ValueError, match="are not pairs"):
        paired_test(a, b[1:])


def test_confused_pairs():
    matrix = np.array([[5, 2, 0], [0, 4, 4], [0, 1, 1]])
    pairs = [(p.label, p.prediction, p.count) for p in confused_pairs(matrix)]
    assert pairs == [(1, 2, 4), (0, 1, 2), (2, 1, 1)]
    assert confused_pairs(matrix)[0].share == 50


def test_order_puts_confused_classes_together():
    rng = np.random.default_rng(0)
    groups = rng.permutation(12) // 3  # of classes that are taken for each other
    matrix = 20 * np.eye(12, dtype=int) + 5 * (groups[:, None] == groups)
    order = confusion_order(matrix)
    assert sorted(order) == list(range(12))
    ordered = groups[order]
    assert sum(ordered[1:] != ordered[:-1]) == 3
    chain = np.eye(4, dtype=int)
    chain[0, 2] = chain[2, 3] = 5
    assert confusion_order(chain) in ([0, 2, 3, 1], [3, 2, 0, 1])
    assert confusion_order(np.eye(3, dtype=int)) == [0, 1, 2]
