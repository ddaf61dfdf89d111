"""Reading what runs have written into their output folders."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slowfast.config.yaml_file import read_yaml
from slowfast.engine.result_files import (
    CLASSES,
    CONFUSION,
    EPISODES,
    MEAN,
    PREDICTIONS,
    SCORES,
    ScoreTable,
)
from slowfast.engine.results import CONFIG, FACTS, FOLDER
from slowfast.utils.errors import RunFailure, UserError


@dataclass(frozen=True)
class TestFolder:
    """The results of a test, ``OUTPUT_DIR/tests/<name>``; ``facts``: what its test.json holds.

    Files are read when they are asked for; a UserError names one that is missing or damaged.
    """

    __test__ = False  # pytest must not collect it

    path: Path
    facts: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> TestFolder:
        """The folder of a test; UserError if it is none."""
        path = Path(path)
        file = path / FACTS
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"{path} is not the folder of a test: it has no {FACTS}",
                f"name a folder below OUTPUT_DIR/{FOLDER}",
            ) from None
        except (OSError, ValueError) as error:
            raise _damaged(file, error) from error
        if not isinstance(facts, dict):
            raise _damaged(file, "it holds no names and values")
        return cls(path, facts)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def figures(self) -> dict[str, float]:
        """Numbers of the test by name; accuracies in percent."""
        return {name: float(value) for name, value in self.facts["figures"].items()}

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in label order."""
        return self.facts["classes"]

    @property
    def is_multi_label(self) -> bool:
        """Whether videos have any number of labels: there is no confusion matrix, and classes have
        an average precision instead of an accuracy."""
        return bool(self.facts.get("multi_label"))

    @property
    def is_fewshot(self) -> bool:
        """Whether it has episodes, and no scores of videos."""
        return (self.path / EPISODES).is_file()

    def config(self) -> dict[str, Any]:
        """The values of the resolved configuration by dotted key."""
        return read_config(self.path)

    def predictions(self) -> list[dict[str, str]]:
        """Rows of predictions.csv by column, in the order of the list."""
        return self._rows(PREDICTIONS)

    def class_rows(self) -> list[dict[str, str]]:
        """Rows of classes.csv by column, in label order, without the last one of means."""
        return [row for row in self._rows(CLASSES) if row["label"] != MEAN]

    def class_means(self) -> dict[str, str]:
        """The last row of classes.csv: totals, and means over the classes."""
        return self._rows(CLASSES)[-1]

    def confusion(self) -> np.ndarray:
        """Videos by true class (rows) and predicted class: int64 ``C C``."""
        with self._reading(CONFUSION) as lines:
            return np.array([[int(cell) for cell in row] for row in list(csv.reader(lines))[1:]])

    def scores(self) -> ScoreTable:
        """Merged scores of all videos, in the order of the list."""
        kind = self.facts["scores"]
        try:
            with np.load(self.path / SCORES, allow_pickle=False) as file:
                arrays = {name: file[name] for name in ("scores", "labels", "views", "paths")}
        except (OSError, ValueError, LookupError, zipfile.BadZipFile) as error:
            raise _damaged(self.path / SCORES, error) from error
        tensors = {name: torch.from_numpy(arrays[name]) for name in ("scores", "labels", "views")}
        return ScoreTable(
            paths=arrays["paths"].tolist(),
            names=self.classes,
            method=kind["ensemble"],
            activation=kind["activation"],
            **tensors,
        )

    def episodes(self) -> dict[int, float]:
        """Accuracy in percent by number of the episode, of a few-shot test."""
        return {int(row["episode"]): float(row["accuracy"]) for row in self._rows(EPISODES)}

    def _rows(self, name: str) -> list[dict[str, str]]:
        with self._reading(name) as lines:
            return list(csv.DictReader(lines))

    def _reading(self, name: str) -> Any:
        try:
            return open(self.path / name, newline="", encoding="utf-8")
        except OSError as error:
            raise _damaged(self.path / name, error) from error


def tests_of(run: str | Path) -> list[TestFolder]:
    """The tests in an output folder, the last one last; UserError if one cannot be read."""
    folder = Path(run) / FOLDER
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    tests = [TestFolder.open(path) for path in paths if (path / FACTS).is_file()]
    return sorted(tests, key=lambda test: test.facts["started"])


tests_of.__test__ = False  # pytest must not collect it


def last_test(path: str | Path) -> TestFolder | None:
    """The folder of a test itself, or the last test of an output folder; None if it has none."""
    if (Path(path) / FACTS).is_file():
        return TestFolder.open(path)
    tests = tests_of(path)
    return tests[-1] if tests else None


def read_config(folder: str | Path) -> dict[str, Any]:
    """The values in ``config.yaml`` of a run or a test by dotted key; UserError if there is none,
    or it is damaged."""
    file = Path(folder) / CONFIG
    if not file.is_file():
        raise UserError(f"there is no {file}", "name the OUTPUT_DIR of a run")
    return {entry.key: entry.value for entry in read_yaml(file)}


def read_stats(out: Path, kind: str = "") -> list[dict[str, Any]]:
    """Lines of ``stats.jsonl`` (of one ``_type``); a line being written is left out."""
    file = out / "stats.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}\n")]
    return [row for row in rows if not kind or row["_type"] == kind]


def read_result(out: Path) -> dict[str, float]:
    """``top1`` of a test, or of the last test of a run, in percent, and ``interval``: half its 95 %
    interval over episodes, 0 if the test is not few-shot."""
    test = last_test(out)
    if test is not None:
        last: dict[str, Any] = test.figures
    else:  # a run of an older version
        tests = [row for row in read_stats(out) if row.get("split") == "test_final"]
        if not tests:
            raise RunFailure(f"{out} holds no result of a test", "is TEST.ENABLE True?")
        last = tests[-1]
    if "map" in last:
        raise UserError(
            f"{out} has a test of videos with several labels, which has no top-1 accuracy",
            "its mean average precision stands in test.json",
        )
    names = {"top1": "top1_acc", "interval": "interval"}
    return {name: round(float(last.get(key, 0)), 2) for name, key in names.items()}


def result_file(out: Path) -> Path:
    """The file that :func:`read_result` reads."""
    test = last_test(out)
    return out / "stats.jsonl" if test is None else test.path / FACTS


def _damaged(file: Path, cause: object) -> UserError:
    return UserError(f"{file} cannot be read: {cause}", "repeat the test")
