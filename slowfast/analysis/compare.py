"""Two few-shot runs on the same tasks: their paired difference."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slowfast.metrics.intervals import Estimate, mean_interval, paired_difference
from slowfast.utils.errors import Problem, UserError

# What the tasks of a test follow from.
_TASKS = (
    "RNG_SEED",
    "FEWSHOT.SPLIT",
    "FEWSHOT.WAY",
    "FEWSHOT.SHOT",
    "FEWSHOT.QUERY_TEST",
    "FEWSHOT.QUERY_CLASSES",
    "DATA.TEST_LIST",
    "DATA.PATH_TO_DATA_DIR",
)


@dataclass(frozen=True)
class Comparison:
    """Accuracies of both runs and of ``b - a``, in percent with 95 % intervals."""

    tasks: int
    a: Estimate
    b: Estimate
    difference: Estimate

    @property
    def differs(self) -> bool:
        """Whether the interval of the difference leaves out zero."""
        return abs(self.difference.mean) > self.difference.interval


def compare_runs(a: str | Path, b: str | Path) -> Comparison:
    """Compare the last tests in two output folders; UserError if their tasks differ."""
    one, other = _accuracies(a), _accuracies(b)
    problems = [
        Problem(f"is {x!r} in {a}, {y!r} in {b}", "test both on the same tasks", key)
        for key in _TASKS
        if (x := _setting(a, key)) != (y := _setting(b, key))
    ]
    if problems:
        raise UserError(problems)
    if one.keys() != other.keys():
        raise UserError(
            f"{a} holds {len(one)} tasks, {b} {len(other)}",
            "test both on equally many",
            "FEWSHOT.TEST_TASKS",
        )
    numbers = sorted(one)
    first, second = [one[n] for n in numbers], [other[n] for n in numbers]
    return Comparison(
        len(numbers), mean_interval(first), mean_interval(second), paired_difference(first, second)
    )


def _accuracies(run: str | Path) -> dict[int, float]:
    file = Path(run) / "tasks.csv"
    if not file.is_file():
        raise UserError(f"there is no {file}", "name the OUTPUT_DIR of a few-shot test")
    with open(file, newline="", encoding="utf-8") as lines:
        return {int(row["task"]): float(row["accuracy"]) for row in csv.DictReader(lines)}


def _setting(run: str | Path, key: str) -> Any:
    file = Path(run) / "config.yaml"
    if not file.is_file():
        raise UserError(f"there is no {file}", "name the OUTPUT_DIR of a few-shot test")
    value: Any = yaml.safe_load(file.read_text())
    for part in key.split("."):
        value = (value or {}).get(part)
    return value
