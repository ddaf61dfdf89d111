"""Top-k accuracy, plain and under mixup."""

from __future__ import annotations

from collections.abc import Sequence

import torch

KS = (1, 5)


def meaningful_ks(num_classes: int) -> tuple[int, ...]:
    """The k of top-k figures that can be wrong for so many classes; 1 in any case."""
    return tuple(k for k in KS if k == 1 or k < num_classes)


def predicted_classes(scores: torch.Tensor) -> torch.Tensor:
    """The best class ``B`` of scores ``B classes``: of equal ones, the one that :func:`topk_counts`
    takes for the first, so that files and figures agree."""
    return scores.topk(max(meaningful_ks(scores.shape[1])), dim=1).indices[:, 0]


def topk_counts(scores: torch.Tensor, labels: torch.Tensor, ks: Sequence[int]) -> torch.Tensor:
    """Numbers of rows of ``B classes`` whose label is among the k best, one for each of ``ks``, on
    the device of the scores; k is capped."""
    top = scores.topk(min(max(ks), scores.shape[1]), dim=1).indices
    hits = top == labels.unsqueeze(1)
    return torch.stack([hits[:, :k].any(1).sum() for k in ks])


def topk_correct(scores: torch.Tensor, labels: torch.Tensor, ks: Sequence[int]) -> list[int]:
    """:func:`topk_counts` as numbers; waits for the device."""
    return topk_counts(scores, labels, ks).tolist()


def topk_errors(scores: torch.Tensor, labels: torch.Tensor, ks: Sequence[int]) -> list[float]:
    """Top-k errors in percent."""
    return [100.0 * (1 - c / len(labels)) for c in topk_correct(scores, labels, ks)]


def topk_accuracies(scores: torch.Tensor, labels: torch.Tensor, ks: Sequence[int]) -> list[float]:
    """Top-k accuracies in percent."""
    return [100.0 * c / len(labels) for c in topk_correct(scores, labels, ks)]


def unmix(scores: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and labels under mixup: the second class counts as a hit of the first.

    The score of the target's second class is added to the first's and removed (PySlowFast).
    """
    first, second = target.topk(2, dim=1).indices.unbind(1)
    rows = torch.arange(len(scores), device=scores.device)
    scores = scores.clone()
    scores[rows, first] += scores[rows, second]
    # A number assigned by indices would be copied to the device, which stops it.
    scores = scores.scatter(1, second[:, None], 0.0)
    return scores, first
