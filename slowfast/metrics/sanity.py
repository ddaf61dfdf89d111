"""What hints at scores that are wrong as a whole: labels in another order, a collapsed network."""

from __future__ import annotations

import torch

_ENOUGH = 2  # videos per class from which predictions can be judged


def sanity_warnings(scores: torch.Tensor, labels: torch.Tensor) -> list[str]:
    """Suspicious facts about scores ``N classes`` and labels ``N``, in words."""
    predictions, classes = scores.argmax(1), len(labels.unique())
    if len(labels) < _ENOUGH * classes or classes < 2:
        return []
    covered = len(predictions.unique())
    correct = float((predictions == labels).float().mean())
    confidence = 0.0  # scores that may be negative are no probabilities
    if float(scores.min()) >= 0:
        confidence = float((scores.max(1).values / scores.sum(1).clamp_min(1e-9)).mean())
    warnings = []
    if covered <= classes // 2:
        warnings.append(f"predictions cover {covered} of the {classes} classes in the list")
    if correct <= 1 / classes and covered > classes // 2 and confidence > 0.5:
        warnings.append(
            f"the mean confidence is {100 * confidence:.0f} %, but {100 * correct:.1f} % of "
            f"{len(labels)} videos are right: are the labels of the list in the order of the "
            "checkpoint's classes?"
        )
    return warnings
