"""Average precision, by hand and against a loop over thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from slowfast.metrics.average_precision import average_precision, mean_average_precision


@pytest.mark.parametrize(
    "scores, positive, expected",
    [
        ([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], (1 / 1 + 2 / 3) / 2),
        ([0.9, 0.8, 0.7], [0, 0, 1], 1 / 3),
        ([0.1, 0.5, 0.3], [0, 1, 1], 1.0),
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], 1 / 4),  # a tie is one threshold
        ([0.9, 0.5, 0.5], [1, 1, 0], (1 / 1 + 2 / 3) / 2),
    ],
)
def test_by_hand(scores, positive, expected):
    assert average_precision(np.array(scores), np.array(positive)) == pytest.approx(expected)


def slow(scores: np.ndarray, positive: np.ndarray) -> float:
    """Precision at every threshold times the recall it adds."""
    total = 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= threshold
        added = positive[scores == threshold].sum() / positive.sum()
        total += added * positive[chosen].mean()
    return float(total)


def test_against_a_loop():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores = rng.integers(0, 6, 20) / 5  # many ties
        positive = rng.integers(0, 2, 20)
        positive[0] = 1
        assert average_precision(scores, positive) == pytest.approx(slow(scores, positive))


def test_the_order_of_equal_scores_does_not_matter():
    scores, positive = np.array([0.5, 0.5, 0.2, 0.5]), np.array([1, 0, 1, 0])
    order = [3, 1, 0, 2]
    assert average_precision(scores, positive) == average_precision(scores[order], positive[order])


def test_classes_without_a_positive_are_left_out():
    scores = np.array([[0.9, 0.1, 0.3], [0.2, 0.8, 0.4]])
    labels = np.array([[1, 0, 0], [0, 1, 0]])
    assert mean_average_precision(scores, labels) == 1.0
    assert mean_average_precision(scores, labels[::-1]) == pytest.approx(0.5)


def test_a_class_without_a_positive_stands_anywhere():
    scores = np.array([[0.9, 0.5, 0.1], [0.8, 0.6, 0.2], [0.1, 0.7, 0.3]])
    labels = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1]])
    assert mean_average_precision(scores, labels) == 1.0
