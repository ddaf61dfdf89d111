"""Figures of classes, drawn by Matplotlib: confusion matrices and histograms of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from slowfast.utils.plotting import require_matplotlib

FIGURE = "matplotlib.figure"
_NUMBERED = 25  # classes up to which cells show their numbers
_MOST_LABELS = 60  # of an axis
_DPI = 100


def confusion_figure(
    matrix: np.ndarray, names: Sequence[str], size: Sequence[float], title: str
) -> np.ndarray:
    """Shares ``C C`` of the videos of each class (rows), 0..1 -> RGB ``H W 3``, ``size`` in inches.

    Cells show their numbers as long as they can be read; an axis names 60 classes at most.
    """
    figure = _figure(size)
    axes = figure.subplots()
    shown = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03)
    count = len(names)
    places = np.arange(0, count, -(-count // _MOST_LABELS))
    font = max(4, min(10, 300 / count))
    labels = [_short(names[place]) for place in places]
    axes.set_xticks(places, labels, rotation=90, fontsize=font)
    axes.set_yticks(places, labels, fontsize=font)
    if count <= _NUMBERED:
        for row, column in np.argwhere(matrix > 0):
            share = matrix[row, column]
            axes.text(
                column,
                row,
                f"{share:.2f}".removeprefix("0"),
                ha="center",
                va="center",
                fontsize=font,
                color="white" if share > 0.5 else "black",
            )
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    return _pixels(figure)


def histogram_figure(
    shares: np.ndarray, names: Sequence[str], size: Sequence[float], title: str
) -> np.ndarray:
    """Shares ``k`` of the predictions ``names`` -> RGB ``H W 3``, largest on top."""
    figure = _figure(size)
    axes = figure.subplots()
    places = np.arange(len(shares))
    colours = ["tab:blue" if name == title else "tab:orange" for name in names]
    axes.barh(places, shares, color=colours)
    axes.set_yticks(places, [_short(name) for name in names])
    axes.invert_yaxis()
    for place, share in zip(places, shares):
        axes.text(share + 0.01, place, f"{share:.2f}", va="center")
    axes.set(xlim=(0, 1.08), xlabel="share of the videos of the class", title=title)
    return _pixels(figure)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"


def _figure(size: Sequence[float]) -> Any:
    module = require_matplotlib(FIGURE, "TENSORBOARD")
    return module.Figure(figsize=tuple(size), dpi=_DPI, layout="constrained")


def _pixels(figure: Any) -> np.ndarray:
    canvas = require_matplotlib("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
