"""Results of a sweep as numbers, CSV files and tables, and tables in pages."""

from __future__ import annotations

import csv
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from slowfast.analysis.markdown import table
from slowfast.analysis.sweep.plots import plot_bars, plot_costs
from slowfast.engine.result_files import write_csv
from slowfast.utils.errors import UserError
from slowfast.utils.files import write_atomic, write_text_atomic
from slowfast.utils.json_text import json_text

RUNS, MEANS, TABLE, RESULTS = "runs.csv", "means.csv", "table.md", "results.json"
BARS, COSTS = "plot.png", "gflops.png"
REPORT = (RESULTS, TABLE, RUNS, MEANS, BARS, COSTS)

_RUN_COLUMNS = (
    *("variant", "group", "seed", "top1", "interval", "cpu_seconds"),
    *("million_parameters", "gflops_per_view"),
)
_MEAN_COLUMNS = (
    *("variant", "group", "runs", "top1_mean", "top1_deviation", "cpu_seconds_mean"),
    *("million_parameters", "gflops_per_view"),
)
# A table in a page: its mark, and the lines of the table under it.
_MARK = re.compile(r"^<!-- table of (\S+\.csv) -->\n(?:\|.*\n)*", re.M)


@dataclass
class Row:
    """Results of the runs of a variant, one entry per seed: top-1 in percent, half its 95 %
    interval over episodes (0 if the test is not few-shot), CPU seconds of training and test
    (None: unknown, since the run was cut off once).

    ``parameters`` in millions, ``gflops`` of one view (multiply-adds).
    """

    name: str
    group: str = ""
    seeds: list[int] = field(default_factory=list)
    top1: list[float] = field(default_factory=list)
    intervals: list[float] = field(default_factory=list)
    cpu_seconds: list[float | None] = field(default_factory=list)
    parameters: float = 0.0
    gflops: float = 0.0

    @property
    def mean(self) -> float:
        return statistics.mean(self.top1)

    @property
    def deviation(self) -> float:
        """Standard deviation between seeds (0 for one)."""
        return statistics.stdev(self.top1) if len(self.top1) > 1 else 0.0

    @property
    def seconds(self) -> float | None:
        """Mean CPU seconds of the runs where they are known."""
        known = [seconds for seconds in self.cpu_seconds if seconds is not None]
        return statistics.mean(known) if known else None


def as_markdown(rows: Sequence[Row]) -> str:
    """The table: mean and standard deviation over the seeds (of one seed: its value), each seed
    (with the 95 % interval over its episodes, if it is few-shot), CPU seconds per run, size of the
    network."""
    seeds = sorted({seed for row in rows for seed in row.seeds})

    def names(numbers: Sequence[int]) -> str:
        return f"{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"

    header = ["variant", "top-1", f"seed{names(seeds)}"]
    header += ["CPU s per run", "M parameters", "GFLOPs per view"]
    lines = []
    for row in rows:
        mean, alone = f"{row.mean:.1f}", len(row.seeds) == 1
        each = ", ".join(
            f"{value:.1f}" + (f" ± {half:.1f}" if half else "")
            for value, half in zip(row.top1, row.intervals)
        )
        lines.append(
            [
                row.name,
                mean if alone else f"{mean} ± {row.deviation:.1f}",
                each if row.seeds == seeds else f"{each} (seed{names(row.seeds)})",
                "not measured" if row.seconds is None else f"{row.seconds:.0f}",
                f"{row.parameters:.2f}",
                f"{row.gflops:.3f}",
            ]
        )
    return table(header, lines)


def write_report(rows: Sequence[Row], folder: Path, chance: float) -> None:
    """Write the files :data:`REPORT`; ``chance`` in percent."""
    facts: list[dict[str, Any]] = [vars(row) for row in rows]
    write_text_atomic(folder / RESULTS, json_text(facts, indent=1))
    write_text_atomic(folder / TABLE, as_markdown(rows) + "\n")
    tables = ((RUNS, _RUN_COLUMNS, _run_lines(rows)), (MEANS, _MEAN_COLUMNS, _mean_lines(rows)))
    for name, columns, lines in tables:
        write_atomic(folder / name, partial(write_csv, header=columns, rows=lines))
    write_atomic(folder / BARS, lambda path: plot_bars(rows, path, chance))
    write_atomic(folder / COSTS, lambda path: plot_costs(rows, path, chance))


def read_rows(file: str | Path) -> list[Row]:
    """The rows of a :data:`RUNS` file; UserError if it is none."""
    rows: dict[str, Row] = {}
    try:
        with open(file, newline="", encoding="utf-8") as lines:
            for line in csv.DictReader(lines):
                row = rows.setdefault(line["variant"], Row(line["variant"], line["group"]))
                row.seeds.append(int(line["seed"]))
                row.top1.append(float(line["top1"]))
                row.intervals.append(float(line["interval"] or 0))
                seconds = line["cpu_seconds"]
                row.cpu_seconds.append(float(seconds) if seconds else None)
                row.parameters = float(line["million_parameters"])
                row.gflops = float(line["gflops_per_view"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        problem = f"{file} is no table of runs: {error!r}"
        raise UserError(problem, f"name the {RUNS} of a sweep") from None
    return list(rows.values())


def filled(text: str, folder: str | Path) -> str:
    """A page with the table of a file under each line ``<!-- table of FILE.csv -->``; ``folder``
    is the one that the page lies in."""

    def replace(mark: re.Match[str]) -> str:
        rows = read_rows(Path(folder) / mark[1])
        return f"<!-- table of {mark[1]} -->\n{as_markdown(rows)}\n"

    return _MARK.sub(replace, text)


def fill_pages(pages: Iterable[str | Path]) -> None:
    """Write the tables of CSV files into Markdown pages, see :func:`filled`."""
    for page in map(Path, pages):
        try:
            text = page.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UserError(f"{page} cannot be read: {error}", "name a page", "--fill") from None
        if not _MARK.search(text):
            remedy = "write <!-- table of FILE.csv --> where the table belongs"
            raise UserError(f"{page} has no mark of a table", remedy, "--fill")
        write_text_atomic(page, filled(text, page.parent))


def _run_lines(rows: Sequence[Row]) -> list[list[object]]:
    return [
        [row.name, row.group, seed, top1, interval or "", _rounded(seconds)] + _size(row)
        for row in rows
        for seed, top1, interval, seconds in zip(
            row.seeds, row.top1, row.intervals, row.cpu_seconds
        )
    ]


def _mean_lines(rows: Sequence[Row]) -> list[list[object]]:
    return [
        [row.name, row.group, len(row.seeds), round(row.mean, 2), round(row.deviation, 2)]
        + [_rounded(row.seconds), *_size(row)]
        for row in rows
    ]


def _rounded(seconds: float | None) -> object:
    return "" if seconds is None else round(seconds, 1)


def _size(row: Row) -> list[object]:
    return [round(row.parameters, 6), round(row.gflops, 6)]
