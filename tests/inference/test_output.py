"""Lines of answers."""

from __future__ import annotations

import csv
import io
import json

import pytest

from slowfast.inference.output import Lines, format_of
from slowfast.inference.prediction import Prediction
from slowfast.utils.errors import UserError

GOOD = Prediction("a,b.mp4", ["run", 'say "ü"'], [0.75, 0.25], span=(0.0, 1.5))
BAD = Prediction("c.mp4", error="the file is empty")


def table(lines: Lines) -> list[dict]:
    text = lines.head() + "".join(lines.line(answer) for answer in (GOOD, BAD))
    return list(csv.DictReader(io.StringIO(text)))


def test_csv():
    good, bad = table(Lines("csv", 2, "probability", windows=True))
    assert good == {
        "path": "a,b.mp4",
        "start": "0.0",
        "end": "1.5",
        "prediction_name": "run",
        "probability": "0.750000",
        "top2_name": 'say "ü"',
        "top2_probability": "0.250000",
        "error": "",
    }
    assert bad["error"] == "the file is empty" and bad["prediction_name"] == bad["start"] == ""
    assert "start" not in table(Lines("csv", 2, "probability", windows=False))[0]


def test_json():
    lines = Lines("jsonl", 2, "probability", windows=True)
    assert lines.head() == ""
    good, bad = (json.loads(lines.line(answer)) for answer in (GOOD, BAD))
    assert good == {
        "path": "a,b.mp4",
        "start": 0.0,
        "end": 1.5,
        "labels": ["run", 'say "ü"'],
        "probabilities": [0.75, 0.25],
    }
    assert bad == {"path": "c.mp4", "error": "the file is empty"}


def test_numbers_that_are_no_probabilities_are_not_called_so():
    assert "top2_logit" in Lines("csv", 2, "logit", windows=False).head()
    assert "logits" in json.loads(Lines("jsonl", 2, "logit", windows=False).line(GOOD))


def test_the_format_follows_the_ending():
    assert [format_of(name, None) for name in ("", "a.csv", "a.jsonl", "a.json")] == [
        "jsonl",
        "csv",
        "jsonl",
        "jsonl",
    ]
    assert format_of("a.txt", "csv") == "csv"
    with pytest.raises(UserError, match="a.xlsx is no jsonl or csv file"):
        format_of("a.xlsx", None)
