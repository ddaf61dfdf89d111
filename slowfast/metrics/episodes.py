"""Evaluation of few-shot episodes: accuracy of each episode and of each class."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from slowfast.metrics.evaluators import EvalResult, LabelledBatch
from slowfast.metrics.intervals import Estimate, mean_interval
from slowfast.utils.errors import UserError


@dataclass
class EpisodeEvaluator:
    """Collects the accuracy of every episode.

    ``accuracy``: percent, by the number of the episode; ``by_class``: (correct, all) queries, by
    the label of the class within the split.
    """

    accuracy: dict[int, float] = field(default_factory=dict)
    by_class: dict[int, tuple[int, int]] = field(default_factory=dict)

    def update(self, scores: torch.Tensor, batch: LabelledBatch) -> dict[str, float]:
        """Scores ``N Q K`` of a batch of N episodes with labels ``N Q``.

        Returns ``top1_err``, the mean error of these episodes in percent.
        """
        hits = scores.argmax(-1).cpu() == batch.label.cpu()
        numbers = batch.episode.numbers
        for number, row, classes in zip(numbers, hits, batch.episode.global_label):
            self.accuracy[number] = 100 * int(row.sum()) / len(row)
            for hit, label in zip(row.tolist(), classes.tolist()):
                self._count(label, int(hit), 1)
        mean = sum(self.accuracy[number] for number in numbers) / len(numbers)
        return {"top1_err": 100 - mean}

    def _count(self, label: int, correct: int, queries: int) -> None:
        before = self.by_class.get(label, (0, 0))
        self.by_class[label] = (before[0] + correct, before[1] + queries)

    def merge(self, other: EpisodeEvaluator) -> None:
        """Take over other episodes, which another process has evaluated."""
        self.accuracy |= other.accuracy
        for label, counts in other.by_class.items():
            self._count(label, *counts)

    @property
    def estimate(self) -> Estimate:
        """Mean accuracy over episodes in percent, with its 95 % interval."""
        return mean_interval([self.accuracy[number] for number in sorted(self.accuracy)])

    def compute(self) -> EvalResult:
        """``top1_err`` and ``interval`` in percent; the score is the mean accuracy in percent.

        UserError if there is no episode.
        """
        if not self.accuracy:
            raise UserError("no episode could be read", "see the warnings above")
        mean, interval = self.estimate
        figures = {"top1_err": 100 - mean, "interval": interval}
        return EvalResult(figures, mean, len(self.accuracy), "episodes")
