"""What a run has left in its OUTPUT_DIR, read for the page."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from slowfast.analysis.report.history import History, read_history
from slowfast.analysis.report.statistics import Interval, accuracy_intervals, confusion_matrix
from slowfast.analysis.results import read_stats
from slowfast.config.load import load_config
from slowfast.config.node import CfgNode
from slowfast.config.yaml_file import read_yaml
from slowfast.engine.launches import read_launches
from slowfast.engine.unreadable import FILE_NAME as UNREADABLE
from slowfast.metrics.intervals import Estimate, mean_interval
from slowfast.utils.errors import UserError

TESTS = "tests"
_MESSAGE = re.compile(r"\[[^\]]*\]\[(WARNING|ERROR|CRITICAL)\] [^:]+: \d+: (.*)")
_PRECISION = re.compile(r"the network computes in (\S+?):? ")


@dataclass(frozen=True)
class Predictions:
    """The lines of ``predictions.csv``: ``N`` videos.

    ``labels``, ``guesses``: numbers of classes; ``scores``, ``label_scores``: of the prediction and
    of the true class (nan where the file does not say); ``are_probabilities``: what scores are.
    """

    paths: list[str]
    labels: np.ndarray
    guesses: np.ndarray
    scores: np.ndarray
    label_scores: np.ndarray
    are_probabilities: bool

    @property
    def correct(self) -> np.ndarray:
        """Whether each video is right, ``N`` (bool)."""
        return self.labels == self.guesses

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class TestRecord:
    """A folder of a test: ``facts`` are those of ``test.json``, ``class_rows`` the lines of
    ``classes.csv``; what a kind of test does not write is empty."""

    __test__ = False  # pytest must not collect it

    folder: Path
    facts: dict[str, Any]
    predictions: Predictions | None
    class_rows: list[dict[str, str]]
    episodes: dict[int, float]

    @property
    def name(self) -> str:
        """Its name for people."""
        return str(self.facts.get("name") or self.folder.name)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the labels."""
        return [str(name) for name in self.facts.get("classes") or []]

    @property
    def figures(self) -> dict[str, float]:
        """The numbers that the test reported."""
        return {k: v for k, v in (self.facts.get("figures") or {}).items() if _is_number(v)}

    @property
    def fingerprint(self) -> str:
        """What identifies the list."""
        return str(self.facts.get("fingerprint", ""))

    @cached_property
    def intervals(self) -> tuple[Interval, Interval] | None:
        """Accuracy and mean-class accuracy over videos; None for a test without predictions."""
        if self.predictions is None or not len(self.predictions):
            return None
        return accuracy_intervals(self.predictions.labels, self.predictions.correct)

    @cached_property
    def matrix(self) -> np.ndarray | None:
        """Confusion matrix, a row per true class."""
        if self.predictions is None or not len(self.predictions):
            return None
        p = self.predictions
        count = max(len(self.classes), int(max(p.labels.max(), p.guesses.max())) + 1)
        return confusion_matrix(p.labels, p.guesses, count)

    @property
    def episode_mean(self) -> Estimate | None:
        """Mean accuracy over episodes; None for a test without episodes."""
        return mean_interval(list(self.episodes.values())) if self.episodes else None

    def class_name(self, label: int) -> str:
        """The name of a class, or its number."""
        return self.classes[label] if label < len(self.classes) else str(label)


@dataclass(frozen=True)
class RunRecord:
    """An output folder. ``values`` are the lines of config.yaml by dotted key; ``messages`` are the
    warnings and errors of the log with how often each came; ``unreadable``: list, line, path and
    cause; ``launches``: see :mod:`slowfast.engine.launches`."""

    folder: Path
    name: str
    history: History
    tests: list[TestRecord]
    values: dict[str, Any]
    messages: list[tuple[str, str, int]]
    precision: str
    unreadable: list[tuple[str, str, str, str]]
    launches: list[dict[str, Any]]

    def load_config(self) -> CfgNode:
        """The configuration, for reading its data on the CPU; UserError if it is not accepted."""
        few = {"NUM_GPUS": 0, "DATA_LOADER.NUM_WORKERS": 0, "DATA.DECODING_DEVICE": "cpu"}
        return load_config([self.folder / "config.yaml"], few)

    @property
    def directory(self) -> Path:
        """The folder that relative paths of the run start from."""
        for launch in reversed(self.launches):
            if launch.get("directory"):
                return Path(launch["directory"])
        return Path()


def read_run(folder: str | Path) -> RunRecord:
    """UserError if ``folder`` holds nothing of a run."""
    folder = Path(folder)
    stats = read_stats(folder)
    tests = [read_test(file.parent) for file in sorted(folder.glob(f"{TESTS}/*/test.json"))]
    if not stats and not tests:
        raise UserError(f"{folder} holds no run", "name the OUTPUT_DIR of a training or test", "RUN")
    tests.sort(key=lambda test: str(test.facts.get("started", "")), reverse=True)
    log = _read(folder / "stdout.log")
    found = _PRECISION.findall(log)
    return RunRecord(
        folder,
        folder.resolve().name,
        read_history(stats),
        tests,
        read_values(folder / "config.yaml"),
        _messages(log),
        found[-1] if found else "",
        _unreadable(folder / UNREADABLE),
        read_launches(folder),
    )


def read_test(folder: Path) -> TestRecord:
    """A folder of a test; UserError if its files are damaged."""
    try:
        facts = json.loads(_read(folder / "test.json"))
        return TestRecord(
            folder,
            facts,
            _predictions(folder / "predictions.csv"),
            _rows(folder / "classes.csv"),
            {int(r["episode"]): float(r["accuracy"]) for r in _rows(folder / "episodes.csv")},
        )
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{folder} is no result of a test: {error}", "repeat the test") from None


def _predictions(file: Path) -> Predictions | None:
    """None if there is no such file, or if its videos do not have one label each."""
    rows = _rows(file)
    if not rows or not rows[0]["label"].isdigit():
        return None
    column = "probability" if "probability" in rows[0] else "logit"
    other = [row.get(f"label_{column}") or row.get("label_probability") or "nan" for row in rows]
    return Predictions(
        [row["path"] for row in rows],
        np.array([int(row["label"]) for row in rows]),
        np.array([int(row["prediction"]) for row in rows]),
        np.array([float(row[column]) for row in rows]),
        np.array([float(value) for value in other]),
        column == "probability",
    )


def _rows(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    with open(file, newline="", encoding="utf-8", errors="surrogateescape") as lines:
        return list(csv.DictReader(lines))


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_values(file: Path) -> dict[str, Any]:
    """The values of a configuration file by dotted key; empty if there is no such file."""
    return {entry.key: entry.value for entry in read_yaml(file)} if file.is_file() else {}


def _messages(log: str) -> list[tuple[str, str, int]]:
    found = Counter(match.groups() for match in _MESSAGE.finditer(log))
    return [(level.lower(), text, count) for (level, text), count in found.items()]


def _unreadable(file: Path) -> list[tuple[str, str, str, str]]:
    lines = [line.split("\t") for line in _read(file).splitlines()]
    return [tuple(parts) for parts in lines if len(parts) == 4]
