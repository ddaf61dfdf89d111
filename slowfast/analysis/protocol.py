"""Summaries of several tests: mean over splits, and base and novel classes."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slowfast.analysis.results import last_test, read_result, result_file
from slowfast.utils.errors import UserError


@dataclass
class ProtocolRow:
    """A data set: top-1 in percent of each of its tests, and the files that hold them."""

    name: str
    top1: list[float] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def __str__(self) -> str:
        """``12.3 ± 0.4``: mean and standard deviation (n - 1) over the tests."""
        mean = statistics.mean(self.top1)
        return f"{mean:.2f}" + (
            f" ± {statistics.stdev(self.top1):.2f}" if len(self.top1) > 1 else ""
        )


def read_rows(words: Iterable[str], name_word: int = 0) -> list[ProtocolRow]:
    """One row per word ``NAME=DIR,DIR…``, where each DIR is an OUTPUT_DIR or a test's folder.

    With ``name_word`` n above 0 a prediction counts as right if the n-th words of both class names
    are the same.
    """
    rows = []
    for word in words:
        name, equals, folders = word.partition("=")
        if not (equals and folders):
            raise UserError(f"{word!r} is not NAME=DIR,DIR…", "see --help", "ROW")
        runs = [Path(folder) for folder in folders.split(",")]
        if name_word:
            results = [word_accuracy(run, name_word) for run in runs]
        else:
            results = [read_result(run)["top1"] for run in runs]
        rows.append(ProtocolRow(name, results, [result_file(run) for run in runs]))
    return rows


def word_accuracy(run: Path, number: int) -> float:
    """Percent of the last test's videos whose true and predicted class names have the same n-th
    word; UserError where a name has fewer words."""
    test = last_test(run)
    if test is None:
        raise UserError(f"{run} holds no folder of a test", "test again", "ROW")
    short = next((name for name in test.classes if len(name.split()) < number), None)
    if short is not None:
        raise UserError(
            f"the class {short!r} has no word {number}", "name an earlier word", "--word"
        )
    pairs = [
        [row[column].split()[number - 1] for column in ("label_name", "prediction_name")]
        for row in test.predictions()
    ]
    return 100 * statistics.mean(true == predicted for true, predicted in pairs)


def split_table(rows: Sequence[ProtocolRow]) -> str:
    """One line per data set: mean and standard deviation, and each split."""
    lines = ["| set | top-1 | each split |", "| --- | --- | --- |"]
    for row in rows:
        each = ", ".join(f"{value:.2f}" for value in row.top1)
        lines.append(f"| {row.name} | {row} | {each} |")
    return "\n".join(lines)


def base_novel_table(rows: Sequence[ProtocolRow]) -> str:
    """One line per data set, with two tests (base and novel classes): both, and their harmonic
    mean."""
    lines = ["| set | base | novel | harmonic mean |", "| --- | --- | --- | --- |"]
    for row in rows:
        if len(row.top1) != 2:
            raise UserError(
                f"{row.name} has {len(row.top1)} tests", "give base and novel, in this order", "ROW"
            )
        base, novel = row.top1
        harmonic = statistics.harmonic_mean(row.top1)
        lines.append(f"| {row.name} | {base:.2f} | {novel:.2f} | {harmonic:.2f} |")
    return "\n".join(lines)
