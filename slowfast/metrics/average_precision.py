"""Mean average precision of multi-label scores."""

from __future__ import annotations

import numpy as np


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the precision-recall curve of one class (steps, ties taken together)."""
    order = np.argsort(-scores, kind="stable")
    scores, positive = scores[order], positive[order].astype(float)
    last_of_tie = np.append(np.diff(scores) != 0, True)
    hits = np.cumsum(positive)[last_of_tie]
    seen = (np.arange(len(scores)) + 1)[last_of_tie]
    recall_steps = np.diff(hits, prepend=0.0) / hits[-1]
    return float(np.sum(recall_steps * hits / seen))


def average_precisions(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The average precision of each class; ``N classes`` each, labels 0 or 1. NaN for classes
    without a positive."""
    return np.array(
        [
            average_precision(scores[:, c], labels[:, c]) if labels[:, c].any() else np.nan
            for c in range(labels.shape[1])
        ]
    )


def mean_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean of :func:`average_precisions` over the classes that have a positive."""
    return float(np.nanmean(average_precisions(scores, labels)))
