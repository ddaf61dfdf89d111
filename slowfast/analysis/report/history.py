"""The course of a training, from the lines of ``stats.jsonl``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

_MAX_POINTS = 2000  # of a curve over steps
MEAN_PRECISION = "map"  # the figure of tests with several labels, between 0 and 1
_TITLES = {MEAN_PRECISION: ("mean average precision", 100)}
# Figures of a validation that are no measure of quality.
_NO_MEASURES = {"videos", "episodes", "bad_items", "interval", "loss"}


@dataclass
class Curve:
    """Values over epochs: ``x`` counts finished epochs, with fractions inside an epoch."""

    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)

    def add(self, x: float, y: float) -> None:
        """Append a point; what was there from ``x`` on was of a part that has been repeated."""
        while self.x and self.x[-1] >= x:
            self.x.pop()
            self.y.pop()
        self.x.append(x)
        self.y.append(y)

    def thinned(self) -> Curve:
        """At most some two thousand points of it."""
        step = len(self.x) // _MAX_POINTS + 1
        return Curve(self.x[::step], self.y[::step])

    def __len__(self) -> int:
        return len(self.x)


@dataclass
class History:
    """Curves of a training; measures are in percent.

    ``step_loss`` and ``rate`` have a point per logged step, the others one per epoch; ``measures``
    are the figures of the validations by name, the top-1 accuracy first.
    """

    step_loss: Curve = field(default_factory=Curve)
    loss: Curve = field(default_factory=Curve)
    val_loss: Curve = field(default_factory=Curve)
    rate: Curve = field(default_factory=Curve)
    train_accuracy: Curve = field(default_factory=Curve)
    measures: dict[str, Curve] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return int(self.loss.x[-1]) if len(self.loss) else 0

    @property
    def best(self) -> tuple[int, str, float] | None:
        """(epoch, name, value) of the best validation by the first measure; None without one."""
        for name, curve in self.measures.items():
            value = max(curve.y)
            return int(curve.x[curve.y.index(value)]), name, value
        return None


def read_history(rows: Iterable[dict[str, Any]]) -> History:
    """The history in the lines of ``stats.jsonl``; an epoch that was repeated counts once."""
    history = History()
    for row in rows:
        add = _READERS.get(row.get("_type", ""))
        if add:
            add(history, row)
    return history


def _epoch(row: dict[str, Any]) -> int:
    return int(str(row["epoch"]).partition("/")[0])


def _add_step(history: History, row: dict[str, Any]) -> None:
    number, _, steps = str(row["iter"]).partition("/")
    x = _epoch(row) - 1 + int(number) / int(steps)
    history.step_loss.add(x, float(row["loss"]))
    if "lr" in row:
        history.rate.add(x, float(row["lr"]))


def _add_epoch(history: History, row: dict[str, Any]) -> None:
    epoch = _epoch(row)
    history.loss.add(epoch, float(row["loss"]))
    if "lr" in row:
        history.rate.add(epoch, float(row["lr"]))
    if "top1_err" in row:
        history.train_accuracy.add(epoch, 100 - float(row["top1_err"]))
    for curve in [history.val_loss, *history.measures.values()]:
        while curve.x and curve.x[-1] >= epoch:
            curve.x.pop()
            curve.y.pop()
    history.measures = {name: curve for name, curve in history.measures.items() if len(curve)}


def _add_validation(history: History, row: dict[str, Any]) -> None:
    epoch = _epoch(row)
    if "loss" in row:
        history.val_loss.add(epoch, float(row["loss"]))
    if "top1_err" in row:
        curve = history.measures.setdefault("top-1 accuracy", Curve())
        curve.add(epoch, 100 - float(row["top1_err"]))
    for name, value in row.items():
        known = name in _NO_MEASURES or name.endswith("_err") or isinstance(value, bool)
        if not known and isinstance(value, (int, float)):
            title, scale = _TITLES.get(name, (name.replace("_", " "), 1))
            history.measures.setdefault(title, Curve()).add(epoch, scale * float(value))


_READERS = {"train_iter": _add_step, "train_epoch": _add_epoch, "val_epoch": _add_validation}
