"""Two few-shot runs on the same episodes: their paired difference."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slowfast.metrics.intervals import Estimate, mean_interval, paired_difference
from slowfast.utils.errors import Problem, UserError

# What the episodes of a test follow from.
_EPISODE_KEYS = (
    "RNG_SEED",
    "FEWSHOT.SPLIT",
    "FEWSHOT.WAY",
    "FEWSHOT.SHOT",
    "FEWSHOT.QUERY_TEST",
    "FEWSHOT.QUERY_CLASSES",
    "DATA.TEST_LIST",
    "DATA.PATH_TO_DATA_DIR",
)
# (file of a run, its column of numbers); the second is how older versions wrote it.
_RESULT_FILES = (("episodes.csv", "episode"), ("tasks.csv", "task"))


@dataclass(frozen=True)
class RunComparison:
    """Accuracies of two runs and of ``b - a``, in percent with 95 % intervals."""

    episodes: int
    a: Estimate
    b: Estimate
    difference: Estimate

    @property
    def differs(self) -> bool:
        """Whether the interval of the difference leaves out zero."""
        return abs(self.difference.mean) > self.difference.interval


def compare_runs(a: str | Path, b: str | Path) -> RunComparison:
    """Compare the last tests in two output folders; UserError if their episodes differ."""
    first, second = read_accuracies(a), read_accuracies(b)
    problems = [
        Problem(f"is {x!r} in {a}, {y!r} in {b}", "test both on the same episodes", key)
        for key in _EPISODE_KEYS
        if (x := _read_key(a, key)) != (y := _read_key(b, key))
    ]
    if problems:
        raise UserError(problems)
    if first.keys() != second.keys():
        raise UserError(
            f"{a} holds {len(first)} episodes, {b} {len(second)}",
            "test both on equally many",
            "FEWSHOT.TEST_EPISODES",
        )
    numbers = sorted(first)
    pairs = [first[n] for n in numbers], [second[n] for n in numbers]
    return RunComparison(
        len(numbers), mean_interval(pairs[0]), mean_interval(pairs[1]), paired_difference(*pairs)
    )


def read_accuracies(run: str | Path) -> dict[int, float]:
    """Accuracy in percent by number of the episode, of the last test of a run."""
    for name, column in _RESULT_FILES:
        if (Path(run) / name).is_file():
            with open(Path(run) / name, newline="", encoding="utf-8") as lines:
                return {int(row[column]): float(row["accuracy"]) for row in csv.DictReader(lines)}
    raise UserError(
        f"there is no {Path(run) / _RESULT_FILES[0][0]}", "name the OUTPUT_DIR of a few-shot test"
    )


def _read_key(run: str | Path, key: str) -> Any:
    file = Path(run) / "config.yaml"
    if not file.is_file():
        raise UserError(f"there is no {file}", "name the OUTPUT_DIR of a few-shot test")
    value: Any = yaml.safe_load(file.read_text())
    for part in key.split("."):
        value = (value or {}).get(part)
    return value
