"""Classification targets made of labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def smooth_one_hot(labels: torch.Tensor, num_classes: int, smoothing: float) -> torch.Tensor:
    """Labels ``B`` -> targets ``B K``: ``s / K`` everywhere, plus ``1 - s`` at the label.

    Label smoothing of arXiv 1512.00567 with ``s = smoothing``; each row sums to one.
    """
    off = smoothing / num_classes
    return F.one_hot(labels, num_classes).float() * (1.0 - smoothing) + off
