"""The files in the folder of a test: predictions, classes, confusion matrix, scores."""

from __future__ import annotations

import csv
import math
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slowfast.metrics.average_precision import average_precisions
from slowfast.metrics.classes import ClassFigures, confused_with, confusion_matrix
from slowfast.metrics.evaluators import ViewEvaluator
from slowfast.metrics.topk import predicted_classes
from slowfast.metrics.views import ClassProbabilities, class_probabilities
from slowfast.models.weights.write import write_archive
from slowfast.utils.files import write_atomic

PREDICTIONS = "predictions.csv"
CLASSES = "classes.csv"
CONFUSION = "confusion.csv"
SCORES = "scores.npz"
EPISODES = "episodes.csv"
MEAN = "mean"  # label of the last row of CLASSES

# Names of the columns that hold what :class:`ClassProbabilities` calls ``kind``.
COLUMNS = {"probability": "probability", "independent": "independent_probability", "logit": "logit"}
_TORCH = (".pt", ".pth", ".pyth")
SUFFIXES = (".pkl", ".npz", *_TORCH)  # of TEST.SAVE_RESULTS_PATH
_TOP = 5


@dataclass(frozen=True)
class ScoreTable:
    """Merged scores ``N C`` of the videos of a test, in the order of the list.

    ``views``: views that were merged, ``N``; ``method`` and ``activation`` as in
    :func:`slowfast.metrics.views.class_probabilities`; ``names``: of the ``C`` classes.
    """

    paths: list[str]
    labels: torch.Tensor
    scores: torch.Tensor
    views: torch.Tensor
    names: list[str]
    method: str
    activation: str

    @classmethod
    def collect(cls, evaluator: ViewEvaluator, names: Sequence[str], activation: str) -> ScoreTable:
        """What an evaluator has collected. Classes without names are called by their numbers."""
        order, scores, labels = evaluator.videos.tensors()
        return cls(
            [evaluator.paths[video] for video in order],
            labels,
            scores,
            torch.tensor([evaluator.videos.views[video] for video in order]),
            list(names) or [str(number) for number in range(scores.shape[1])],
            evaluator.method,
            activation,
        )

    def probabilities(self) -> ClassProbabilities:
        """Of the classes, ``N C``."""
        return class_probabilities(self.scores, self.views, self.method, self.activation)

    def facts(self) -> dict[str, Any]:
        """For ``test.json``: what the scores are."""
        kind = self.probabilities().kind
        return {"kind": kind, "ensemble": self.method, "activation": self.activation}

    def confusion(self) -> torch.Tensor:
        """Videos by true and predicted class, ``C C``."""
        return confusion_matrix(predicted_classes(self.scores), self.labels, len(self.names))


def write_recognition(table: ScoreTable, folder: Path) -> None:
    """All files of a test of recognition."""
    write_csv(folder / PREDICTIONS, *_predictions(table))
    matrix = table.confusion()
    write_csv(folder / CLASSES, CLASS_COLUMNS, class_rows(matrix, table.names))
    write_csv(folder / CONFUSION, table.names, matrix.tolist())
    _write_arrays(table, folder)


def write_multi_label(table: ScoreTable, folder: Path) -> None:
    """All files of a test of videos with several labels each; ``table.labels``: ``N C``."""
    write_csv(folder / PREDICTIONS, *_multi_label_predictions(table))
    write_csv(folder / CLASSES, MULTI_LABEL_COLUMNS, _average_precision_rows(table))
    _write_arrays(table, folder)


def _write_arrays(table: ScoreTable, folder: Path) -> None:
    content = {"scores": table.scores, "labels": table.labels, "views": table.views}
    arrays = {name: value.numpy() for name, value in content.items()}
    np.savez(folder / SCORES, paths=np.array(table.paths, dtype=np.str_), **arrays)


def _multi_label_predictions(table: ScoreTable) -> tuple[list[str], Iterable[list[Any]]]:
    """Header and rows of predictions.csv: the labels of each video, and its best classes."""
    values, kind = table.probabilities()
    column, names = COLUMNS[kind], table.names
    best = table.scores.topk(min(_TOP, values.shape[1]), dim=1).indices
    header = ["path", "labels", "label_names"]
    for place in range(1, best.shape[1] + 1):
        header += [f"top{place}", f"top{place}_name", f"top{place}_{column}", f"top{place}_correct"]

    def rows() -> Iterable[list[Any]]:
        for path, label, classes, numbers in zip(table.paths, table.labels, best, values):
            present = label.nonzero()[:, 0].tolist()
            row = [path, " ".join(map(str, present)), "; ".join(names[i] for i in present)]
            for number in classes.tolist():
                row += [number, names[number], f"{numbers[number]:.5f}", int(label[number])]
            yield row

    return header, rows()


MULTI_LABEL_COLUMNS = ("label", "name", "videos", "average_precision")


def _average_precision_rows(table: ScoreTable) -> Iterable[list[Any]]:
    """Rows of classes.csv: the average precision of each class in percent, and its mean over the
    classes that have videos."""
    precisions = 100 * average_precisions(table.scores.numpy(), table.labels.numpy())
    counts = table.labels.sum(0).int().tolist()
    for label, (name, videos, value) in enumerate(zip(table.names, counts, precisions.tolist())):
        yield [label, name, videos, percent(value)]
    yield [MEAN, "", sum(counts), percent(float(np.nanmean(precisions)))]


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table with a header, in UTF-8."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _predictions(table: ScoreTable) -> tuple[list[str], Iterable[list[Any]]]:
    """Header and rows of predictions.csv: the best class, the true one, and the next best."""
    values, kind = table.probabilities()
    column, names = COLUMNS[kind], table.names
    count = min(_TOP, values.shape[1])
    header = ["path", "label", "label_name", "prediction", "prediction_name", column, "correct"]
    header.append(f"label_{column}")
    for place in range(2, count + 1):
        header += [f"top{place}_name", f"top{place}_{column}"]
    # By the scores, whose order is that of the figures.
    first = predicted_classes(table.scores)[:, None]
    others = table.scores.scatter(1, first, -math.inf).topk(count - 1, dim=1).indices
    best = torch.cat([first, others], dim=1)
    shown = values.gather(1, best).tolist()
    of_label = values.gather(1, table.labels[:, None])[:, 0].tolist()
    columns = zip(table.paths, table.labels.tolist(), best.tolist(), shown, of_label)

    def rows() -> Iterable[list[Any]]:
        for path, label, classes, numbers, own in columns:
            row = [path, label, names[label], classes[0], names[classes[0]], f"{numbers[0]:.5f}"]
            row += [int(classes[0] == label), f"{own:.5f}"]
            for number, value in zip(classes[1:], numbers[1:]):
                row += [names[number], f"{value:.5f}"]
            yield row

    return header, rows()


CLASS_COLUMNS = (
    "label",
    "name",
    "videos",
    "correct",
    "accuracy",
    "precision",
    "recall",
    "f1",
    "most_confused_with",
    "confused",
)


def class_rows(matrix: torch.Tensor, names: Sequence[str]) -> Iterable[list[Any]]:
    """Rows of classes.csv from a confusion matrix: one per class, and the means over the classes
    that have videos. A figure that is not defined is empty."""
    figures = ClassFigures.of_confusion(matrix)
    columns = (figures.recall, figures.precision, figures.recall, figures.f1)
    counts = zip(figures.videos.tolist(), figures.correct.tolist())
    shares = zip(*(column.tolist() for column in columns))
    for label, ((videos, correct), values, other) in enumerate(
        zip(counts, shares, confused_with(matrix))
    ):
        confused = ["", 0] if other is None else [names[other[0]], other[1]]
        yield [label, names[label], videos, correct, *map(percent, values), *confused]
    means = (percent(figures.mean(column)) for column in columns)
    totals = [int(figures.videos.sum()), int(figures.correct.sum())]
    yield [MEAN, "", *totals, *means, "", totals[0] - totals[1]]


def episode_class_rows(
    by_class: Mapping[int, tuple[int, int]], names: Sequence[str]
) -> Iterable[list[Any]]:
    """Rows of classes.csv of a few-shot test, from (correct, all) queries by label: one per class,
    and the mean over the classes that had queries."""
    shares = []
    for label, name in enumerate(names):
        correct, queries = by_class.get(label, (0, 0))
        share = 100 * correct / queries if queries else math.nan
        shares += [share] if queries else []
        yield [label, name, queries, correct, percent(share)]
    totals = [sum(pair[number] for pair in by_class.values()) for number in (1, 0)]
    yield [MEAN, "", *totals, percent(sum(shares) / len(shares))]


def percent(value: float) -> str:
    """Two digits; empty if the number is not defined."""
    return "" if math.isnan(value) else f"{value:.2f}"


def write_scores(scores: torch.Tensor, labels: torch.Tensor, path: Path) -> None:
    """Scores ``N classes`` and labels ``N`` in the order of the list, in a file of one's own.

    ``.pkl`` is a pickle of ``[scores, labels]`` as NumPy arrays, in the form of PySlowFast;
    ``.npz`` and ``.pt`` hold ``scores`` and ``labels`` by name.
    """
    content = {"scores": scores, "labels": labels}
    arrays = {name: value.numpy() for name, value in content.items()}

    def write(temporary: str) -> None:
        if path.suffix in _TORCH:
            write_archive(content, temporary)
            return
        with open(temporary, "wb") as file:
            if path.suffix == ".pkl":
                pickle.dump(list(arrays.values()), file)
            else:
                np.savez(file, **arrays)

    write_atomic(path, write)
