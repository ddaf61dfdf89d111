"""Evaluation of few-shot episodes: accuracy of each episode and of each class."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from slowfast.metrics.evaluators import EvalResult, LabelledBatch
from slowfast.metrics.intervals import Estimate, mean_interval
from slowfast.utils.errors import UserError


@dataclass
class EpisodeEvaluator:
    """``accuracy``: percent by number of the episode; ``by_class``: label -> (correct, queries)."""

    accuracy: dict[int, float] = field(default_factory=dict)
    by_class: dict[int, tuple[int, int]] = field(default_factory=dict)

    def update(self, scores: torch.Tensor, batch: LabelledBatch) -> dict[str, float]:
        """Scores ``N Q K`` of a batch of N episodes with labels ``N Q``."""
        hits = scores.argmax(-1).cpu() == batch.label.cpu()
        numbers = batch.episode.numbers
        for number, row, classes in zip(numbers, hits, batch.episode.global_label):
            self.accuracy[number] = 100 * int(row.sum()) / len(row)
            for hit, label in zip(row.tolist(), classes.tolist()):
                correct, count = self.by_class.get(label, (0, 0))
                self.by_class[label] = (correct + hit, count + 1)
        mean = sum(self.accuracy[number] for number in numbers) / len(numbers)
        return {"top1_err": 100 - mean}

    def merge(self, other: EpisodeEvaluator) -> None:
        self.accuracy |= other.accuracy
        for label, (correct, count) in other.by_class.items():
            before = self.by_class.get(label, (0, 0))
            self.by_class[label] = (before[0] + correct, before[1] + count)

    @property
    def estimate(self) -> Estimate:
        """Mean accuracy over episodes in percent, with its 95 % interval."""
        return mean_interval([self.accuracy[number] for number in sorted(self.accuracy)])

    def compute(self) -> EvalResult:
        """``top1_err`` and ``interval`` in percent; the score is the mean accuracy."""
        if not self.accuracy:
            raise UserError("no episode could be read", "see the warnings above")
        mean, interval = self.estimate
        figures = {"top1_err": 100 - mean, "interval": interval}
        return EvalResult(figures, mean, len(self.accuracy), "episodes")
