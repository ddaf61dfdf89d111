"""A test on the page: what its tables, figures and gallery hold."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slowfast.analysis.report import figures
from slowfast.analysis.report.history import MEAN_PRECISION
from slowfast.analysis.report.pictures import Picture, VideoPictures
from slowfast.analysis.report.runs import Predictions, TestRecord
from slowfast.analysis.report.statistics import Confusion, Interval, confused_pairs, confusion_order
from slowfast.engine.result_files import COLUMNS
from slowfast.metrics.intervals import Estimate

MOST_PAIRS = 100
PROBABILITY = "probability"  # the kind of scores of which one can say how sure they are
_PART = 30  # classes of the part of a confusion matrix that holds the most frequent confusions
_TOP5_FROM = 6  # classes
_TITLES = {
    MEAN_PRECISION: "Mean average precision in %",
    "top1_acc_with_bad": "Accuracy in %, unreadable ones wrong",
}
_WRONG_SHARE = 2 / 3  # of the gallery; the rest are the least certain videos


@dataclass(frozen=True)
class GalleryItem:
    """A video of the gallery; ``row`` is its line of the predictions."""

    row: int
    path: str
    picture: Picture
    label: int
    guess: int
    score: float
    is_wrong: bool


@dataclass(frozen=True)
class ClassRow:
    """A line of the table of classes; figures in percent, None: not defined. ``accuracy`` is the
    average precision where videos have several labels."""

    label: int
    name: str
    count: int
    accuracy: float | None
    precision: float | None
    f1: float | None
    confused_with: str
    confused: int


@dataclass
class TestDetails:
    """What the page shows of a test. ``key`` is its name in the page's data; ``data`` goes to the
    scripts of the page, ``plots`` are figures by name."""

    __test__ = False  # pytest must not collect it

    key: str
    record: TestRecord
    accuracy: Interval | None = None
    mean_class: Interval | None = None
    top5: float | None = None
    episode_mean: Estimate | None = None
    further: dict[str, float] = field(default_factory=dict)
    classes: list[ClassRow] = field(default_factory=list)
    pairs: list[Confusion] = field(default_factory=list)
    pair_count: int = 0
    wrong: list[GalleryItem] = field(default_factory=list)
    uncertain: list[GalleryItem] = field(default_factory=list)
    plots: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


def test_details(record: TestRecord, key: str) -> TestDetails:
    """Everything but the gallery, which :func:`fill_gallery` adds."""
    details = TestDetails(key, record, further=_further(record))
    details.classes = class_rows(record)
    if record.episodes:
        details.episode_mean = record.episode_mean
        details.plots["episodes"] = figures.episodes_figure(
            [(record.name, list(record.episodes.values()))]
        )
    predictions, matrix = record.predictions, record.matrix
    if predictions is None or matrix is None:
        return details
    details.accuracy, details.mean_class = record.intervals
    if len(matrix) >= _TOP5_FROM:
        details.top5 = record.figures.get("top5_acc")
    found = confused_pairs(matrix)
    details.pairs, details.pair_count = found[:MOST_PAIRS], len(found)
    details.plots["confusion"] = figures.confusion_figure()
    if predictions.kind == PROBABILITY:
        details.plots["confidence"] = figures.confidence_figure(
            predictions.scores, predictions.correct
        )
    details.data = _data(record, predictions, matrix, found)
    return details


test_details.__test__ = False  # pytest must not collect it


def _further(record: TestRecord) -> dict[str, float]:
    """Figures of the test that the headline does not compute itself."""
    known = {"top1_acc", "top5_acc", "mean_class_accuracy", "interval", "videos", "episodes"}
    figures = {name: value for name, value in record.figures.items() if name not in known}
    if MEAN_PRECISION in figures:  # the only one that is no percentage
        figures[MEAN_PRECISION] *= 100
    return {_TITLES.get(name, name.replace("_", " ")): value for name, value in figures.items()}


def class_rows(record: TestRecord) -> list[ClassRow]:
    """The classes that have videos, those with the lowest accuracy first."""
    rows = []
    for row in record.class_rows:
        count = int(row.get("videos") or row.get("queries") or 0)
        first = "average_precision" if "average_precision" in row else "accuracy"
        numbers = [_percent(row.get(column)) for column in (first, "precision", "f1")]
        confused = int(row.get("confused") or 0)
        partner = row.get("most_confused_with") or ""
        label, name = int(row["label"]), row["name"]
        rows.append(ClassRow(label, name, count, *numbers, partner, confused))
    kept = [row for row in rows if row.count]
    return sorted(
        kept, key=lambda row: (row.accuracy if row.accuracy is not None else 101, row.name)
    )


def _percent(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return None if np.isnan(value) else value


def _data(
    record: TestRecord, predictions: Predictions, matrix: np.ndarray, pairs: list[Confusion]
) -> dict[str, Any]:
    """What the scripts of the page work on: names, sparse confusion matrix, videos."""
    names = [record.class_name(label) for label in range(len(matrix))]
    used = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
    order = [label for label in confusion_order(matrix) if label in set(used.tolist())]
    part: list[int] = []
    for pair in pairs:
        new = [label for label in (pair.label, pair.prediction) if label not in part]
        part += new if len(part) + len(new) <= _PART else []
    rows, columns = np.nonzero(matrix)
    prefix = os.path.commonprefix(predictions.paths)
    prefix = prefix[: prefix.rfind("/") + 1]
    return {
        "names": names,
        "totals": matrix.sum(1).tolist(),
        "cells": [rows.tolist(), columns.tolist(), matrix[rows, columns].tolist()],
        "orders": {
            "confused": order,
            "list": used.tolist(),
            "part": [label for label in order if label in set(part)],
        },
        "prefix": prefix,
        "paths": [path[len(prefix) :] for path in predictions.paths],
        "labels": predictions.labels.tolist(),
        "guesses": predictions.guesses.tolist(),
        "scores": _rounded(predictions.scores),
        "label_scores": _rounded(predictions.label_scores),
        "score": COLUMNS[predictions.kind].replace("_", " "),
    }


def _rounded(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 4) for value in values]


def fill_gallery(details: TestDetails, pictures: VideoPictures, count: int) -> None:
    """Add up to ``count`` videos: wrong ones, each confusion in turn, and the least certain."""
    predictions = details.record.predictions
    if predictions is None:
        return
    wanted = round(count * _WRONG_SHARE)
    details.wrong = _items(predictions, _wrong_rows(predictions), pictures, wanted)
    shown = {item.row for item in details.wrong}
    order = np.argsort(predictions.scores, kind="stable")
    rows = (int(row) for row in order if int(row) not in shown)
    if predictions.kind == PROBABILITY:
        left = count - len(details.wrong)
        details.uncertain = _items(predictions, rows, pictures, left)


def _wrong_rows(predictions: Predictions) -> Iterator[int]:
    """Wrong videos: the surest of the most frequent confusion, of the next one, …, then the second
    of each."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in np.flatnonzero(~predictions.correct):
        groups[int(predictions.labels[row]), int(predictions.guesses[row])].append(int(row))
    for rows in groups.values():
        rows.sort(key=lambda row: -predictions.scores[row])
    queues = sorted(groups.values(), key=lambda rows: (-len(rows), rows[0]))
    for place in range(max(map(len, queues), default=0)):
        yield from (rows[place] for rows in queues if place < len(rows))


def _items(
    predictions: Predictions, rows: Iterator[int], pictures: VideoPictures, count: int
) -> list[GalleryItem]:
    items: list[GalleryItem] = []
    while len(items) < count and pictures.budget.allows():
        row = next(rows, None)
        if row is None:
            break
        path = predictions.paths[row]
        picture = pictures.picture(path)
        if picture is None:
            continue
        label, guess = int(predictions.labels[row]), int(predictions.guesses[row])
        score = float(predictions.scores[row])
        items.append(GalleryItem(row, path, picture, label, guess, score, label != guess))
    return items
