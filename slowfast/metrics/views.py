"""Merging the views of a video, by video id; every video counts once."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from slowfast.metrics.topk import topk_accuracies


def merge_views(scores: torch.Tensor, method: str) -> torch.Tensor:
    """Scores ``... views classes`` -> ``... classes`` by ``sum`` or ``max``."""
    return scores.sum(-2) if method == "sum" else scores.amax(-2)


@dataclass
class VideoScores:
    """Merged scores of the videos seen so far; the views of one may come in several parts."""

    method: str = "sum"
    scores: dict[int, torch.Tensor] = field(default_factory=dict)
    labels: dict[int, int] = field(default_factory=dict)
    views: dict[int, int] = field(default_factory=dict)

    def add(self, video: int, label: int, scores: torch.Tensor) -> None:
        """Add scores ``views classes`` of a video."""
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
        """Video ids in order, scores ``N classes``, labels ``N``."""
        order = sorted(self.scores)
        scores = torch.stack([self.scores[i] for i in order])
        return order, scores, torch.tensor([self.labels[i] for i in order])

    def accuracies(self, ks: tuple[int, ...] = (1, 5)) -> list[float]:
        """Top-k accuracies in percent over videos."""
        _, scores, labels = self.tensors()
        return topk_accuracies(scores, labels, ks)
