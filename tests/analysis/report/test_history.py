"""Curves of trainings that were interrupted, repeated, or thinned."""

from __future__ import annotations

import pytest

from slowfast.analysis.report.history import Curve, read_history


def epoch(number, loss, accuracy):
    name = f"{number}/9"
    return [
        {"_type": "train_iter", "epoch": name, "iter": "1/2", "loss": loss, "lr": 0.5},
        {"_type": "train_epoch", "epoch": name, "loss": loss, "lr": 0.4, "top1_err": 75.0},
        {
            "_type": "val_epoch",
            "epoch": name,
            "top1_err": 100 - accuracy,
            "gpu_mem": "1G",
            "map": 0.07,
        },
    ]


def test_curves_and_best_epoch():
    history = read_history(epoch(1, 2.0, 30) + epoch(2, 1.0, 50) + epoch(3, 0.5, 40))
    assert history.loss == Curve([1, 2, 3], [2.0, 1.0, 0.5])
    assert history.rate.x == [0.5, 1, 1.5, 2, 2.5, 3]
    assert history.train_accuracy.y == [25, 25, 25]
    assert list(history.measures) == ["top-1 accuracy", "mean average precision"]
    assert history.measures["mean average precision"].y == [pytest.approx(7)] * 3
    assert history.best == (2, "top-1 accuracy", 50) and history.epochs == 3


def test_repeated_epochs_count_once():
    """A killed epoch is repeated; a training that begins anew in the same folder replaces all."""
    rows = epoch(1, 2.0, 30) + epoch(2, 9.0, 50) + epoch(2, 1.0, 60)
    history = read_history(rows)
    assert history.loss == Curve([1, 2], [2.0, 1.0]) and history.best[2] == 60
    again = read_history(rows + epoch(1, 7.0, 10))
    assert again.loss == Curve([1], [7.0]) and again.best == (1, "top-1 accuracy", 10)


def test_numbers_that_are_not_finite_and_no_training():
    rows = epoch(1, "nan", 30)
    assert str(read_history(rows).loss.y) == "[nan]"
    assert read_history([{"_type": "test_final"}]).best is None


def test_thinned():
    curve = Curve(list(range(10_000)), [0.0] * 10_000)
    assert 1000 < len(curve.thinned()) <= 2000 and len(Curve([1], [2]).thinned()) == 1
