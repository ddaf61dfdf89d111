"""Losses by name (``MODEL.LOSS_FUNC``)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from slowfast.video.mixup import smooth_one_hot

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def soft_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, reduction: str = "mean"
) -> torch.Tensor:
    """Cross entropy with targets ``B classes``, which need not sum to one."""
    loss = -(target * F.log_softmax(logits, dim=-1)).sum(-1)
    return loss.mean() if reduction == "mean" else loss


def build_loss(name: str, classes: int, smoothing: float = 0.0) -> Loss:
    """``(logits B classes, labels B or targets B classes) -> loss``.

    Hard labels are turned into targets where the loss wants them, so that every loss works
    with and without mixup.
    """

    def as_targets(labels: torch.Tensor) -> torch.Tensor:
        return labels if labels.ndim == 2 else smooth_one_hot(labels, classes, smoothing)

    if name in ("cross_entropy", "soft_cross_entropy"):
        return lambda logits, labels: soft_cross_entropy(logits.float(), as_targets(labels))
    if name == "bce_logit":
        return lambda logits, labels: F.binary_cross_entropy_with_logits(
            logits.float(), as_targets(labels)
        )
    return lambda logits, labels: F.binary_cross_entropy(logits.float(), as_targets(labels))
