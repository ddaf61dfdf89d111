"""A picture of a long video: the probability of each class over time (extra: plot)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slowfast.inference.prediction import Prediction
from slowfast.utils.errors import UserError
from slowfast.utils.files import write_atomic
from slowfast.utils.plotting import require_matplotlib

_MOST_CLASSES = 12
_LONG_NAME = 36  # characters


def shown_classes(answers: Sequence[Prediction]) -> list[int]:
    """The classes that are shown: those that are the most probable one somewhere, then the next
    ones by their mean; in the order in which they are first the most probable."""
    scores = np.stack([answer.scores.numpy() for answer in answers])
    first = list(dict.fromkeys(scores.argmax(1).tolist()))
    # Of many, those that are so for the longest time.
    counts = np.bincount(scores.argmax(1), minlength=scores.shape[1])
    leading = sorted(first, key=lambda label: -counts[label])[:_MOST_CLASSES]
    others = [label for label in np.argsort(-scores.mean(0)).tolist() if label not in first]
    room = max(min(_MOST_CLASSES, 5) - len(leading), 0)
    return [label for label in first if label in leading] + others[:room]


def write_timeline(answers: Sequence[Prediction], classes: Sequence[str], path: str | Path) -> None:
    """Write a PNG: a row per class, dark where it is probable; above it the most probable class.

    Windows that could not be read are left white and hatched. UserError if none could be read.
    """
    readable = [answer for answer in answers if not answer.error]
    if not readable:
        raise UserError("no window could be read", "", "--timeline")
    require_matplotlib(key="--timeline")
    write_atomic(path, lambda temporary: _plot(answers, readable, classes, temporary))


def _plot(
    answers: Sequence[Prediction], readable: Sequence[Prediction], classes: Sequence[str], path: str
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = shown_classes(readable)
    edges = _edges(answers)
    values = np.full((len(labels), len(answers)), np.nan)
    for column, answer in enumerate(answers):
        if not answer.error:
            values[:, column] = answer.scores.numpy()[labels]
    figure = Figure(figsize=(10, 1.3 + 0.32 * len(labels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    is_share = readable[0].kind != "logit"
    limits = {"vmin": 0.0, "vmax": 1.0} if is_share else {}
    axes.set_facecolor("#eeeeee")  # where nothing could be read
    mesh = axes.pcolormesh(
        edges, np.arange(len(labels) + 1), np.ma.masked_invalid(values), cmap="Blues", **limits
    )
    rows = {label: row + 0.5 for row, label in enumerate(labels)}
    middles = (edges[:-1] + edges[1:]) / 2
    best = [None if answer.error else int(answer.scores.argmax()) for answer in answers]
    marked = [(x, rows[label]) for x, label in zip(middles, best) if label in rows]
    axes.plot(*zip(*marked), "o", color="#e6550d", markersize=3, label="most probable class")
    axes.set_yticks(np.arange(len(labels)) + 0.5, [_short(classes[label]) for label in labels])
    axes.invert_yaxis()
    axes.set_xlim(edges[0], edges[-1])
    long = edges[-1] - edges[0] >= 600
    if long:
        axes.xaxis.set_major_formatter(lambda seconds, _: _clock(seconds))
    axes.set_xlabel("time (h:mm:ss)" if long else "seconds")
    axes.set_title(_short(Path(answers[0].path).name, 90), fontsize=10, loc="left")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    figure.colorbar(mesh, ax=axes, label="probability" if is_share else "logit", pad=0.01)
    figure.savefig(path, dpi=120, format="png")


def _edges(answers: Sequence[Prediction]) -> np.ndarray:
    """Where the cells of the windows meet: half-way between their centres."""
    spans = [answer.span or (0.0, 0.0) for answer in answers]
    centres = [(start + end) / 2 for start, end in spans]
    inner = [(one + two) / 2 for one, two in zip(centres, centres[1:])]
    return np.array([spans[0][0], *inner, spans[-1][1]])


def _short(name: str, most: int = _LONG_NAME) -> str:
    # Matplotlib reads what stands between two dollars as a formula.
    name = name.replace("$", r"\$")
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
