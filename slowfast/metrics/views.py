"""Merging the views of a video, by video id; every video counts once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from slowfast.metrics.topk import topk_accuracies


def merge_views(scores: torch.Tensor, method: str) -> torch.Tensor:
    """Scores ``... views classes`` -> ``... classes`` by ``sum`` or ``max``."""
    return scores.sum(-2) if method == "sum" else scores.amax(-2)


class ClassProbabilities(NamedTuple):
    """What a video's scores say about its classes: ``values`` ``... classes``, and what they are.

    ``kind``: ``probability`` (they sum to one), ``independent`` (a sigmoid's: each class may be
    present or absent by itself), or ``logit`` (numbers that only their order gives a meaning).
    """

    values: torch.Tensor
    kind: str


def class_probabilities(
    merged: torch.Tensor, views: int | torch.Tensor, method: str, activation: str
) -> ClassProbabilities:
    """Probabilities of the classes from scores that :func:`merge_views` gave; their order stays.

    ``merged``: ``... classes``; ``views``: how many were merged, a number or a tensor ``...``;
    ``method``: sum or max (DATA.ENSEMBLE_METHOD); ``activation``: what the logits of each view had
    passed (MODEL.HEAD_ACT). Views that had a softmax: their mean, or their largest values divided
    by the sum of these. Views without activation: the softmax of their mean, or of their largest
    logits.
    """
    merged = merged.float()
    count = torch.as_tensor(views, dtype=merged.dtype, device=merged.device)
    mean = merged / count.unsqueeze(-1) if method == "sum" else merged
    if activation == "softmax":
        # The mean of softmaxes sums to one already, up to rounding.
        return ClassProbabilities(mean / mean.sum(-1, keepdim=True), "probability")
    if activation == "none":
        return ClassProbabilities(mean.softmax(-1), "probability")
    return ClassProbabilities(mean, "independent" if activation == "sigmoid" else "logit")


@dataclass
class VideoScores:
    """Merged scores of the videos seen so far; the views of one may come in several parts."""

    method: str = "sum"
    scores: dict[int, torch.Tensor] = field(default_factory=dict)
    labels: dict[int, int | list[float]] = field(default_factory=dict)
    views: dict[int, int] = field(default_factory=dict)

    def add(self, video: int, label: int | list[float], scores: torch.Tensor) -> None:
        """Add scores ``views classes`` of a video; ``label``: its number, or with several labels
        one or zero for each class."""
        merged = merge_views(scores.detach().float().cpu(), self.method)
        if video in self.scores:
            merged = merge_views(torch.stack([self.scores[video], merged]), self.method)
        self.scores[video] = merged
        self.labels[video] = label
        self.views[video] = self.views.get(video, 0) + len(scores)

    def update(self, other: VideoScores) -> None:
        """Take over another rank's videos; one that is here already is not counted again."""
        for video in other.scores:
            if video not in self.scores:
                self.scores[video] = other.scores[video]
                self.labels[video] = other.labels[video]
                self.views[video] = other.views[video]

    def __len__(self) -> int:
        return len(self.scores)

    def tensors(self) -> tuple[list[int], torch.Tensor, torch.Tensor]:
        """Video ids in order, scores ``N classes``, labels ``N`` (several: ``N classes``)."""
        order = sorted(self.scores)
        scores = torch.stack([self.scores[i] for i in order])
        return order, scores, torch.tensor([self.labels[i] for i in order])

    def accuracies(self, ks: tuple[int, ...] = (1, 5)) -> list[float]:
        """Top-k accuracies in percent over videos."""
        _, scores, labels = self.tensors()
        return topk_accuracies(scores, labels, ks)
