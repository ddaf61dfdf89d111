"""Figures of each class: confusion matrix, recall, precision, F1, and the most confused classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from slowfast.metrics.topk import predicted_classes


def confusion_matrix(
    predictions: torch.Tensor, labels: torch.Tensor, num_classes: int
) -> torch.Tensor:
    """Videos by true class (rows) and predicted class (columns): int64 ``C C``.

    ``predictions``, ``labels``: ``N`` class numbers below ``num_classes``.
    """
    cells = labels.long() * num_classes + predictions.long()
    return torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)


@dataclass(frozen=True)
class ClassFigures:
    """What three counts of each class say, int64 ``C`` each: ``videos`` that show the class,
    videos for which it was ``predicted``, and how many of these are ``correct``.

    The counts are defined for one label a video and for several. Figures are float64 ``C`` in
    percent, nan where they are not defined.
    """

    videos: torch.Tensor
    predicted: torch.Tensor
    correct: torch.Tensor

    @classmethod
    def of_confusion(cls, matrix: torch.Tensor) -> ClassFigures:
        """From a :func:`confusion_matrix`."""
        return cls(matrix.sum(1), matrix.sum(0), matrix.diagonal())

    @classmethod
    def of_scores(cls, scores: torch.Tensor, labels: torch.Tensor) -> ClassFigures:
        """From scores ``N C`` and labels ``N``; the best class is predicted."""
        return cls.of_confusion(
            confusion_matrix(predicted_classes(scores), labels, scores.shape[1])
        )

    @property
    def recall(self) -> torch.Tensor:
        """Share of the videos of a class that are recognised: the accuracy of the class."""
        return 100 * self.correct.double() / self.videos

    @property
    def precision(self) -> torch.Tensor:
        """Share of the predictions of a class that are right; 0 if it has videos and is never
        predicted."""
        precision = 100 * self.correct.double() / self.predicted
        return torch.where((self.predicted == 0) & (self.videos > 0), 0.0, precision)

    @property
    def f1(self) -> torch.Tensor:
        """Harmonic mean of recall and precision; nan for a class without videos."""
        f1 = 200 * self.correct.double() / (self.videos + self.predicted)
        return torch.where(self.videos > 0, f1, torch.nan)

    def mean(self, figures: torch.Tensor) -> float:
        """Mean of ``figures`` ``C`` over the classes that have videos; nan if none has.

        Of :attr:`recall`, this is the mean-class accuracy.
        """
        return float(figures[self.videos > 0].mean())


class ConfusedPair(NamedTuple):
    """``videos`` of the class ``label`` were taken for the class ``prediction``."""

    label: int
    prediction: int
    videos: int


def most_confused(matrix: torch.Tensor, count: int) -> list[ConfusedPair]:
    """The ``count`` largest cells of a :func:`confusion_matrix` beside its diagonal, without empty
    ones; equal ones in the order of the classes."""
    wrong = matrix.clone().fill_diagonal_(0).flatten()
    best = wrong.sort(descending=True, stable=True)
    kept = min(count, int((wrong > 0).sum()))
    size = len(matrix)
    return [
        ConfusedPair(cell // size, cell % size, videos)
        for videos, cell in zip(best.values[:kept].tolist(), best.indices[:kept].tolist())
    ]


def confused_with(matrix: torch.Tensor) -> list[tuple[int, int] | None]:
    """For each class the other class that its videos are most often taken for, and how many are;
    None where all are right."""
    wrong = matrix.clone().fill_diagonal_(0)
    videos = wrong.amax(1).tolist()
    # argmax is free to give any of several equal ones: the first, for equal files in all runs.
    firsts = (wrong == wrong.amax(1, keepdim=True)).int().argmax(1).tolist()
    return [(first, number) if number else None for first, number in zip(firsts, videos)]
