"""Classifiers over the feature maps of clips, also of clips larger than those of the training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

HEAD_ACTIVATIONS = ("softmax", "sigmoid", "none")


def pool_windows(x: torch.Tensor, window: Sequence[float]) -> torch.Tensor:
    """Means ``B C t h w`` of ``B C T H W`` over all windows of this size; one that is larger than
    the maps is cut to their size."""
    kernel = [min(side, size) for side, size in zip(window, x.shape[2:])]
    if kernel == list(x.shape[2:]):
        return x.mean((2, 3, 4), keepdim=True)
    return F.avg_pool3d(x, kernel, stride=1)


def features_of(pooled: torch.Tensor) -> torch.Tensor:
    """``B C t h w`` -> ``B C`` for a single position, else one vector each, ``B P C``."""
    vectors = pooled.flatten(2).mT
    return vectors[:, 0] if vectors.shape[1] == 1 else vectors


def merge_positions(logits: torch.Tensor, activation: str) -> torch.Tensor:
    """Logits ``B P K`` -> the logits ``B K`` whose activation is the mean of theirs.

    ``activation`` as MODEL.HEAD_ACT: softmax, sigmoid or none.
    """
    log_count = math.log(logits.shape[1])
    if activation == "softmax":
        return logits.float().log_softmax(-1).logsumexp(1) - log_count
    if activation == "sigmoid":
        logits = logits.float()
        return F.logsigmoid(logits).logsumexp(1) - F.logsigmoid(-logits).logsumexp(1)
    return logits.mean(1)


class ClipClassifier(nn.Module):
    """Dropout and ``projection`` of features ``B C``, or of several positions ``B P C``.

    Fully convolutional evaluation (arXiv 1711.07971, section 4): every position is classified for
    itself, and the activations are averaged. Subclasses pool in :meth:`features`.
    """

    def __init__(
        self, channels: int, num_classes: int, *, dropout_rate: float = 0.5, activation: str
    ):
        super().__init__()
        self.activation = activation
        self.dropout = nn.Dropout(dropout_rate)
        self.projection = nn.Linear(channels, num_classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``B C`` or ``B P C`` -> logits ``B K``."""
        logits = self.projection(self.dropout(features))
        return merge_positions(logits, self.activation) if logits.ndim == 3 else logits

    def init_weights(self, std: float) -> None:
        """Weights of the classifier normal with deviation ``std``, its bias zero."""
        nn.init.normal_(self.projection.weight, std=std)
        nn.init.zeros_(self.projection.bias)


class PathwayHead(ClipClassifier):
    """The means of the maps of each pathway, one after the other, and a classifier.

    Args:
        channels: of each pathway.
        windows: size over time, rows and columns of the mean of each pathway; inf: all of it.
        num_classes, dropout_rate, activation: as :class:`ClipClassifier`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        windows: Sequence[Sequence[float]],
        num_classes: int,
        *,
        dropout_rate: float,
        activation: str,
    ):
        super().__init__(
            sum(channels), num_classes, dropout_rate=dropout_rate, activation=activation
        )
        self.windows = tuple(map(tuple, windows))

    def features(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Maps ``B C T H W`` of each pathway -> ``B C``, or ``B P C`` for larger clips."""
        pooled = [pool_windows(x, window) for x, window in zip(maps, self.windows, strict=True)]
        return features_of(torch.cat(pooled, dim=1))
