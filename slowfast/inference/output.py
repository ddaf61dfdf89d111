"""Answers as lines: JSON objects, or rows of a CSV table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from slowfast.inference.prediction import Prediction
from slowfast.utils.errors import UserError
from slowfast.utils.json_text import json_text

FORMATS = ("jsonl", "csv")


def format_of(out: str | None, given: str | None) -> str:
    """The format that is named, else that of the ending of ``out``, else JSON lines.

    UserError for an ending that is none.
    """
    if given:
        return given
    ending = Path(out or "").suffix.lower()
    known = {"": "jsonl", ".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
    if ending not in known:
        raise UserError(
            f"{out} is no {' or '.join(FORMATS)} file",
            "name it .jsonl or .csv, or say --format",
            "--out",
        )
    return known[ending]


class Lines:
    """Turns predictions into lines of a format; all of one output have the same columns.

    ``classes``: how many a line names; ``kind`` as in :class:`Prediction`; ``windows``: whether
    lines have a start and an end.
    """

    def __init__(self, format_name: str, classes: int, kind: str, windows: bool):
        self.format, self.classes, self.windows = format_name, classes, windows
        # What is no probability is not called one.
        self.number = "logit" if kind == "logit" else "probability"

    def head(self) -> str:
        """The first line; empty where there is none."""
        if self.format != "csv":
            return ""
        span = ["start", "end"] if self.windows else []
        pairs = [
            f"top{place}_{column}" if place > 1 else {"name": "prediction_name"}.get(column, column)
            for place in range(1, self.classes + 1)
            for column in ("name", self.number)
        ]
        return _row(["path", *span, *pairs, "error"])

    def line(self, answer: Prediction) -> str:
        """One prediction, with its line end."""
        if self.format == "csv":
            return _row(list(self._cells(answer)))
        facts: dict = {"path": answer.path}
        if self.windows:
            facts |= {} if answer.span is None else dict(zip(("start", "end"), _times(answer)))
        if answer.error:
            facts["error"] = answer.error
        else:
            numbers = [round(number, 6) for number in answer.probabilities]
            plural = "logits" if self.number == "logit" else "probabilities"
            facts |= {"labels": answer.labels, plural: numbers}
        return json_text(facts, ensure_ascii=False) + "\n"

    def _cells(self, answer: Prediction) -> Iterator[object]:
        yield answer.path
        if self.windows:
            yield from _times(answer)
        for place in range(self.classes):
            known = place < len(answer.labels)
            yield answer.labels[place] if known else ""
            yield f"{answer.probabilities[place]:.6f}" if known else ""
        yield answer.error


def _times(answer: Prediction) -> tuple[object, object]:
    if answer.span is None:
        return "", ""
    start, end = answer.span
    return round(start, 3), round(end, 3)


def _row(cells: list) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
