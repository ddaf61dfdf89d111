"""Statistics of classifications: intervals by bootstrap, paired comparisons, confusions.

Accuracies and their intervals are in percent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

SEED = 0
REPEATS = 2_000
_LEVEL = 95.0  # percent of the resamples that lie inside an interval
_CELLS_AT_ONCE = 4_000_000  # numbers of resampled tables that are held in memory


class Interval(NamedTuple):
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} % ({self.low:.2f} to {self.high:.2f})"


class Confusion(NamedTuple):
    """``count`` videos of class ``label`` were taken for ``prediction``; ``share`` of the class in
    percent."""

    label: int
    prediction: int
    count: int
    share: float


@dataclass(frozen=True)
class PairedTest:
    """Two classifiers on the same videos.

    ``difference``: accuracy of b minus that of a; ``only_a``, ``only_b``: videos that one alone has
    right; ``p_value``: of McNemar's exact test that both are equally good.
    """

    videos: int
    difference: Interval
    only_a: int
    only_b: int
    p_value: float


def accuracy_intervals(
    labels: np.ndarray, correct: np.ndarray, repeats: int = REPEATS, seed: int = SEED
) -> tuple[Interval, Interval]:
    """(accuracy, mean-class accuracy) of N videos with labels ``N`` and ``correct`` ``N`` (bool).

    Percentile bootstrap over videos. Only the counts of right and wrong videos of each class
    matter, and those of a resample are multinomial: no video is drawn one by one. A class that a
    resample lacks does not enter its mean. ValueError if there is no video.
    """
    if not len(labels):
        raise ValueError("no videos")
    classes, index = np.unique(labels, return_inverse=True)
    table = np.bincount(2 * index + correct.astype(int), minlength=2 * len(classes))
    rng = np.random.default_rng(seed)
    parts = []
    step = max(_CELLS_AT_ONCE // len(table), 1)
    for start in range(0, repeats, step):
        drawn = rng.multinomial(
            len(labels), table / len(labels), size=min(step, repeats - start)
        ).reshape(-1, len(classes), 2)
        parts.append(np.stack(_accuracies(drawn)))
    resampled = np.concatenate(parts, axis=1)
    values = _accuracies(table.reshape(1, -1, 2))
    both = (_interval(float(value[0]), row) for value, row in zip(values, resampled))
    return tuple(both)


def _accuracies(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts ``R classes (wrong, right)`` -> accuracy and mean-class accuracy, ``R`` each."""
    right, count = tables[..., 1], tables.sum(-1)
    overall = 100 * right.sum(1) / count.sum(1)
    per_class = np.divide(right, count, out=np.zeros(right.shape), where=count > 0)
    return overall, 100 * per_class.sum(1) / (count > 0).sum(1)


def _interval(value: float, resampled: np.ndarray) -> Interval:
    low, high = np.percentile(resampled, [(100 - _LEVEL) / 2, (100 + _LEVEL) / 2])
    return Interval(value, float(low), float(high))


def paired_test(
    a: np.ndarray, b: np.ndarray, repeats: int = REPEATS, seed: int = SEED
) -> PairedTest:
    """Compare who is right: ``a`` and ``b`` are ``N`` (bool), of the same videos in one order.

    The interval of the difference is the percentile bootstrap over videos. ValueError if there is
    no video, or if the numbers differ.
    """
    if len(a) != len(b) or not len(a):
        raise ValueError(f"{len(a)} and {len(b)} videos are not pairs")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    total = len(a)
    shares = np.array([only_a, only_b, total - only_a - only_b]) / total
    drawn = np.random.default_rng(seed).multinomial(total, shares, size=repeats)
    difference = _interval(
        100 * (only_b - only_a) / total, 100 * (drawn[:, 1] - drawn[:, 0]) / total
    )
    return PairedTest(total, difference, only_a, only_b, mcnemar(only_a, only_b))


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value of McNemar's exact test for the two counts of disagreement."""
    total, fewer = only_a + only_b, min(only_a, only_b)
    logs = [
        math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
        for k in range(fewer + 1)
    ]
    tail = sum(math.exp(value - total * math.log(2)) for value in logs)
    return min(1.0, 2 * tail)


def confused_pairs(matrix: np.ndarray) -> list[Confusion]:
    """What was taken for what, the most frequent first; right predictions are left out."""
    errors = matrix - np.diag(np.diag(matrix))
    totals = matrix.sum(1)
    rows, columns = np.nonzero(errors)
    found = [
        Confusion(int(r), int(c), int(errors[r, c]), 100 * float(errors[r, c] / totals[r]))
        for r, c in zip(rows, columns)
    ]
    return sorted(found, key=lambda pair: (-pair.count, -pair.share, pair.label, pair.prediction))


def confusion_order(matrix: np.ndarray) -> list[int]:
    """An order of the classes in which those that are confused stand together.

    Chains are joined at their ends, the most confused pair of classes first, until one is left
    (the greedy path of the travelling salesman); classes that are never confused come last.
    """
    classes = len(matrix)
    totals = np.maximum(matrix.sum(1), 1)
    shares = matrix / totals[:, None]
    mutual = np.triu(shares + shares.T, 1)
    rows, columns = np.nonzero(mutual)
    chains = {label: [label] for label in range(classes)}  # by each of its two ends
    for index in np.argsort(-mutual[rows, columns], kind="stable"):
        one, other = int(rows[index]), int(columns[index])
        first, second = chains.get(one), chains.get(other)
        if first is None or second is None or first is second:
            continue  # inside a chain already
        for end in {first[0], first[-1], second[0], second[-1]}:
            del chains[end]
        joined = (first if first[-1] == one else first[::-1]) + (
            second if second[0] == other else second[::-1]
        )
        chains[joined[0]] = chains[joined[-1]] = joined
    distinct = {id(chain): chain for chain in chains.values()}.values()
    ordered = sorted(distinct, key=lambda chain: (-len(chain), chain[0]))
    return [label for chain in ordered for label in chain]
