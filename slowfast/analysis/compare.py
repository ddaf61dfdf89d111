"""Two few-shot runs on the same episodes: their paired difference."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowfast.analysis.results import last_test, read_config
from slowfast.engine.result_files import EPISODES
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
# (file in OUTPUT_DIR, its column of numbers), as older versions wrote them.
_OLD_FILES = ((EPISODES, "episode"), ("tasks.csv", "task"))


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
    """Compare two tests, or the last tests of two runs; UserError if their episodes differ."""
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
    """Accuracy in percent by number of the episode, of a test, or of the last test of a run."""
    test = last_test(run)
    if test is not None and test.is_fewshot:
        return test.episodes()
    for name, column in _OLD_FILES:
        if (Path(run) / name).is_file():
            with open(Path(run) / name, newline="", encoding="utf-8") as lines:
                return {int(row[column]): float(row["accuracy"]) for row in csv.DictReader(lines)}
    raise UserError(
        f"{run} holds no {EPISODES} of a test", "name the OUTPUT_DIR of a few-shot test"
    )


def _read_key(run: str | Path, key: str) -> Any:
    test = last_test(run)
    return (test.config() if test is not None else read_config(run)).get(key)
