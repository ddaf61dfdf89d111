"""Figures of classes, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from slowfast.metrics.classes import (
    ClassFigures,
    ConfusedPair,
    confused_with,
    confusion_matrix,
    most_confused,
)
from slowfast.metrics.evaluators import mean_class_accuracy

# Six videos of four classes; the last class has none.
LABELS = torch.tensor([0, 0, 0, 1, 1, 2])
PREDICTIONS = torch.tensor([0, 1, 1, 1, 3, 0])
MATRIX = [[1, 2, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_confusion_matrix():
    assert confusion_matrix(PREDICTIONS, LABELS, 4).tolist() == MATRIX


def test_figures_by_hand():
    figures = ClassFigures.of_confusion(torch.tensor(MATRIX))
    assert figures.videos.tolist() == [3, 2, 1, 0]
    assert figures.predicted.tolist() == [2, 3, 0, 1]
    assert figures.correct.tolist() == [1, 1, 0, 0]
    recall = figures.recall.tolist()
    assert recall[:3] == pytest.approx([100 / 3, 50, 0]) and math.isnan(recall[3])
    # Class 2 is never predicted, class 3 once, and wrongly.
    assert figures.precision.tolist() == pytest.approx([50, 100 / 3, 0, 0])
    f1 = figures.f1.tolist()
    assert f1[:3] == pytest.approx([40, 40, 0]) and math.isnan(f1[3])
    assert figures.mean(figures.recall) == pytest.approx((100 / 3 + 50) / 3)
    assert figures.mean(figures.precision) == pytest.approx((50 + 100 / 3) / 3)
    assert figures.mean(figures.f1) == pytest.approx(80 / 3)


def test_a_class_that_is_neither_shown_nor_predicted_has_no_figures():
    figures = ClassFigures.of_confusion(torch.tensor([[2, 0], [0, 0]]))
    assert all(math.isnan(values[1]) for values in (figures.recall, figures.precision, figures.f1))
    nothing = ClassFigures.of_confusion(torch.zeros(2, 2, dtype=torch.long))
    assert math.isnan(nothing.mean(nothing.recall))


def test_f1_is_the_harmonic_mean():
    generator = torch.Generator().manual_seed(1)
    scores, labels = torch.rand(200, 5, generator=generator), torch.arange(200) % 5
    figures = ClassFigures.of_scores(scores, labels)
    recall, precision = figures.recall, figures.precision
    assert torch.allclose(figures.f1, 2 * recall * precision / (recall + precision))
    right = (scores.argmax(1) == labels).double().mean()
    assert figures.correct.sum() == round(200 * float(right))
    assert mean_class_accuracy(scores, labels) == pytest.approx(figures.mean(recall))


def test_most_confused():
    matrix = torch.tensor(MATRIX)
    assert most_confused(matrix, 2) == [ConfusedPair(0, 1, 2), ConfusedPair(1, 3, 1)]
    assert len(most_confused(matrix, 50)) == 3 and most_confused(torch.eye(3).long(), 9) == []
    assert confused_with(matrix) == [(1, 2), (3, 1), (0, 1), None]
    assert confused_with(torch.tensor([[0, 2, 2], [0, 1, 0], [0, 0, 1]]))[0] == (1, 2)
    assert matrix.tolist() == MATRIX
