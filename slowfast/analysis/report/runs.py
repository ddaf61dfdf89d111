"""What a run has left in its OUTPUT_DIR, read for the page."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from slowfast.analysis.report.history import History, read_history
from slowfast.analysis.report.statistics import Interval, accuracy_intervals
from slowfast.analysis.results import TestFolder, read_config, read_stats, tests_of
from slowfast.config.load import load_config
from slowfast.config.node import CfgNode
from slowfast.engine.launches import read_launches
from slowfast.engine.result_files import CLASSES, COLUMNS, PREDICTIONS
from slowfast.engine.results import CONFIG
from slowfast.engine.unreadable import FILE_NAME as UNREADABLE
from slowfast.metrics.intervals import Estimate, mean_interval
from slowfast.utils.errors import UserError

_MESSAGE = re.compile(r"\[[^\]]*\]\[(WARNING|ERROR|CRITICAL)\] [^:]+: \d+: (.*)")
_PRECISION = re.compile(r"the network computes in (\S+?):? ")


@dataclass(frozen=True)
class Predictions:
    """The lines of ``predictions.csv``: ``N`` videos.

    ``labels``, ``guesses``: numbers of classes; ``scores``, ``label_scores``: of the prediction and
    of the true class; ``kind``: what scores are, ``probability``, ``independent`` or ``logit``.
    """

    paths: list[str]
    labels: np.ndarray
    guesses: np.ndarray
    scores: np.ndarray
    label_scores: np.ndarray
    kind: str

    @property
    def correct(self) -> np.ndarray:
        """Whether each video is right, ``N`` (bool)."""
        return self.labels == self.guesses

    def __len__(self) -> int:
        return len(self.paths)


class TestRecord:
    """A test: its folder, and what the page computes of it. Files are read when asked for."""

    __test__ = False  # pytest must not collect it

    def __init__(self, folder: TestFolder):
        self.folder, self.facts, self.name = folder, folder.facts, folder.name

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def fingerprint(self) -> str:
        """What identifies the list."""
        return str(self.facts.get("fingerprint", ""))

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes, in label order."""
        return [str(name) for name in self.facts.get("classes") or []]

    @cached_property
    def figures(self) -> dict[str, float]:
        """The numbers that the test reported."""
        return self.folder.figures

    @cached_property
    def predictions(self) -> Predictions | None:
        """None for a test without predictions, or whose videos do not have one label each."""
        if not (self.path / PREDICTIONS).is_file():
            return None
        rows = self.folder.predictions()
        if not rows or "prediction" not in rows[0]:
            return None
        kind = next(name for name, column in COLUMNS.items() if column in rows[0])
        try:
            return Predictions(
                [row["path"] for row in rows],
                np.array([int(row["label"]) for row in rows]),
                np.array([int(row["prediction"]) for row in rows]),
                np.array([float(row[COLUMNS[kind]]) for row in rows]),
                np.array([float(row[f"label_{COLUMNS[kind]}"]) for row in rows]),
                kind,
            )
        except (ValueError, KeyError, TypeError) as error:
            problem = f"{self.path / PREDICTIONS} cannot be read: {error}"
            raise UserError(problem, "repeat the test") from None

    @property
    def paths(self) -> list[str]:
        """The videos of the test, as the list names them; empty if they are not known."""
        return [] if self.predictions is None else self.predictions.paths

    @cached_property
    def class_rows(self) -> list[dict[str, str]]:
        """The lines of classes.csv without the means."""
        return self.folder.class_rows() if (self.path / CLASSES).is_file() else []

    @cached_property
    def episodes(self) -> dict[int, float]:
        """Accuracy in percent by number of the episode; empty for a test without episodes."""
        return self.folder.episodes() if self.folder.is_fewshot else {}

    @cached_property
    def intervals(self) -> tuple[Interval, Interval] | None:
        """Accuracy and mean-class accuracy over videos; None for a test without predictions."""
        if self.predictions is None:
            return None
        return accuracy_intervals(self.predictions.labels, self.predictions.correct)

    @cached_property
    def matrix(self) -> np.ndarray | None:
        """Confusion matrix, a row per true class; None for a test without predictions."""
        return None if self.predictions is None else self.folder.confusion()

    @property
    def episode_mean(self) -> Estimate | None:
        """Mean accuracy over episodes; None for a test without episodes."""
        return mean_interval(list(self.episodes.values())) if self.episodes else None

    def class_name(self, label: int) -> str:
        """The name of a class, or its number."""
        return self.classes[label] if label < len(self.classes) else str(label)


@dataclass(frozen=True)
class RunRecord:
    """An output folder. ``tests``: the newest first; ``config_file``: of the training, or of the
    newest test; ``values``: what it holds, by dotted key; ``messages``: the warnings and errors of
    the log with how often each came; ``unreadable``: list, line, path and cause; ``launches``: see
    :mod:`slowfast.engine.launches`."""

    folder: Path
    name: str
    history: History
    tests: list[TestRecord]
    config_file: Path
    values: dict[str, Any]
    messages: list[tuple[str, str, int]]
    precision: str
    unreadable: list[tuple[str, ...]]
    launches: list[dict[str, Any]]

    def load_config(self) -> CfgNode:
        """The configuration, for reading its data on the CPU; UserError if it is not accepted."""
        few = {"NUM_GPUS": 0, "DATA_LOADER.NUM_WORKERS": 0, "DATA.DECODING_DEVICE": "cpu"}
        return load_config([self.config_file], few)

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
    tests = [TestRecord(test) for test in reversed(tests_of(folder))]
    if not stats and not tests:
        raise UserError(
            f"{folder} holds no run", "name the OUTPUT_DIR of a training or test", "RUN"
        )
    config_file = folder / CONFIG
    if tests and not config_file.is_file():
        config_file = tests[0].path / CONFIG
    log = _read(folder / "stdout.log")
    found = _PRECISION.findall(log)
    return RunRecord(
        folder,
        folder.resolve().name,
        read_history(stats),
        tests,
        config_file,
        read_config(config_file.parent) if config_file.is_file() else {},
        _messages(log),
        found[-1] if found else "",
        _unreadable(folder / UNREADABLE),
        read_launches(folder),
    )


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _messages(log: str) -> list[tuple[str, str, int]]:
    found = Counter(match.groups() for match in _MESSAGE.finditer(log))
    return [(level.lower(), text, count) for (level, text), count in found.items()]


def _unreadable(file: Path) -> list[tuple[str, ...]]:
    lines = [line.split("\t") for line in _read(file).splitlines()]
    return [tuple(parts) for parts in lines if len(parts) == 4]
