"""Confusion matrices of a sweep: one per row, the videos of all seeds together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slowfast.analysis.results import last_test
from slowfast.analysis.sweep.plots import new_figure
from slowfast.engine.result_files import write_csv
from slowfast.utils.files import write_atomic

CSV, PLOT = "confusion.csv", "confusion.png"
_MAX_CLASSES = 30  # more cannot be read in a picture
_COLUMNS = 5  # of matrices, at most


@dataclass(frozen=True)
class Confusion:
    """Videos by true class (rows) and predicted class, int ``C C``, of the runs of one row."""

    name: str
    classes: list[str]
    counts: np.ndarray


def read_confusion(name: str, runs: Iterable[Path]) -> Confusion | None:
    """The sum over the last tests of ``runs``, output folders; None if one has no such matrix, as
    few-shot tests, or too many classes for a picture."""
    total, classes = None, []
    for run in runs:
        test = last_test(run)
        if test is None or test.is_fewshot or test.is_multi_label:
            return None
        classes = test.classes
        if len(classes) > _MAX_CLASSES:
            return None
        total = test.confusion() + (0 if total is None else total)
    return None if total is None else Confusion(name, classes, total)


def write_confusions(found: Sequence[Confusion], folder: Path) -> None:
    """Write :data:`CSV` (pairs of classes that occur) and :data:`PLOT`."""
    lines = [
        [one.name, one.classes[true], one.classes[predicted], one.counts[true, predicted]]
        for one in found
        for true, predicted in np.argwhere(one.counts)
    ]
    columns = ("variant", "class", "predicted", "videos")
    write_atomic(folder / CSV, lambda path: write_csv(path, columns, lines))
    write_atomic(folder / PLOT, lambda path: _plot(found, path))


def _plot(found: Sequence[Confusion], path: str) -> None:
    """Small matrices beside each other, in percent of the true class."""
    rows = math.ceil(len(found) / _COLUMNS)
    columns = math.ceil(len(found) / rows)
    figure, grid = new_figure(1.5 + 2.5 * columns, 0.9 + 2.7 * rows, rows, columns)
    for number, axes in enumerate(np.ravel(grid)):
        if number >= len(found):
            axes.set_axis_off()
            continue
        one = found[number]
        share = 100 * one.counts / np.maximum(one.counts.sum(1, keepdims=True), 1)
        image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
        right = 100 * np.trace(one.counts) / max(one.counts.sum(), 1)
        axes.set_title(f"{one.name}: {right:.1f} %", fontsize=9)
        ticks = range(len(one.classes))
        last = number + columns >= len(found)
        axes.set_xticks(ticks, one.classes if last else [], rotation=90, fontsize=7)
        axes.set_yticks(ticks, one.classes if number % columns == 0 else [], fontsize=7)
        axes.tick_params(length=0)
        axes.spines[:].set_color("0.8")
    figure.get_layout_engine().set(h_pad=0.08)
    figure.supxlabel("predicted class", fontsize=9)
    figure.supylabel("true class", fontsize=9)
    figure.colorbar(image, ax=grid, shrink=0.5, label="% of the videos of a class")
    figure.savefig(path, dpi=110, format="png")
