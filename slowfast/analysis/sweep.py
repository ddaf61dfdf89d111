"""Sweeps: runs of several configurations and seeds, and a table and a plot of their results."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from slowfast.analysis.results import read_result
from slowfast.config.load import load_config
from slowfast.config.node import CfgNode
from slowfast.engine.tasks import task_class
from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.files import make_dirs, write_atomic, write_text_atomic
from slowfast.utils.json_text import json_text
from slowfast.utils.paths import prepare_outputs
from slowfast.utils.processes import ending_with_parent
from slowfast.utils.runtime import cpu_count

_REPORT = ("results.json", "table.md", "plot.png")


@dataclass(frozen=True)
class SweepVariant:
    """One row of the table: a configuration file and KEY VALUE words."""

    name: str
    config: Path
    words: tuple[str, ...] = ()


@dataclass
class Row:
    """Results of the runs of a variant, one entry per seed: top-1 in percent, half its 95 %
    interval over episodes (0 if the test is not few-shot), CPU seconds."""

    name: str
    seeds: list[int] = field(default_factory=list)
    top1: list[float] = field(default_factory=list)
    intervals: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        return statistics.mean(self.top1)

    @property
    def deviation(self) -> float:
        """Standard deviation between seeds (0 for one)."""
        return statistics.stdev(self.top1) if len(self.top1) > 1 else 0.0


def make_variants(
    configs: Iterable[str | Path], key: str = "", values: Sequence[str] = ()
) -> list[SweepVariant]:
    """Every combination of a configuration and a value of ``key`` (if given), with distinct
    names."""
    files = [Path(config) for config in configs]
    pairs = [(file, value) for file in files for value in (values if key else [""])]
    variants = [
        SweepVariant(
            " ".join(filter(None, (file.stem if len(files) > 1 or not key else "", value))),
            file,
            (key, value) if key else (),
        )
        for file, value in pairs
    ]
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names):
        raise UserError(f"rows would have equal names: {', '.join(names)}", "", "--cfg")
    return variants


class Sweep:
    """Runs below ``folder``; finished ones are not repeated.

    ``program``: words after the interpreter that start the run command; ``words``: KEY VALUE.
    """

    def __init__(self, program: Sequence[str], folder: str | Path, words: Sequence[str]):
        self.program, self.folder, self.words = list(program), make_dirs(folder), list(words)

    def run(
        self, variants: Sequence[SweepVariant], seeds: Sequence[int], jobs: int, threads: int = 0
    ) -> list[Row]:
        """Train and test all variants with all seeds, ``jobs`` runs at a time.

        ``threads`` per run; 0 divides the cores among the jobs. RunFailure if a run fails.
        """
        threads = threads or max(cpu_count() // jobs, 1)
        work = [(variant, seed) for variant in variants for seed in seeds]
        outputs = [self._run_folder(*pair) / "sweep.json" for pair in work]
        outputs += [self.folder / name for name in _REPORT]
        prepare_outputs(outputs, [variant.config for variant in variants], "--out")
        with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(work), unit="run") as bar:

            def one(pair: tuple[SweepVariant, int]) -> str:
                failure = self._run_one(*pair, threads)
                bar.update()
                return failure

            failures = [text for text in pool.map(one, work) if text]
        if failures:
            raise RunFailure(
                f"{len(failures)} of {len(work)} runs failed: {failures[0]}",
                "finished runs are kept: solve the problem and start the sweep again",
            )
        return [self._row(variant, seeds) for variant in variants]

    def _run_folder(self, variant: SweepVariant, seed: int) -> Path:
        return self.folder / variant.name.replace(" ", "_").replace("/", "_") / f"seed_{seed}"

    def _run_one(self, variant: SweepVariant, seed: int, threads: int) -> str:
        """Run unless finished with the same settings; returns the failure, or an empty text."""
        out = self._run_folder(variant, seed)
        words = [*self.words, *variant.words, "RNG_SEED", str(seed)]
        command = [*self.program, "--cfg", str(variant.config), *words, "OUTPUT_DIR", str(out)]
        done = out / "sweep.json"
        # The settings, not the command, decide: a configuration file may have changed.
        settings = load_config([variant.config], words).flat()
        settings = json.loads(json.dumps(settings, default=str))
        if done.is_file() and json.loads(done.read_text()).get("settings") == settings:
            return ""
        make_dirs(out)
        env = ending_with_parent() | {"OMP_NUM_THREADS": str(threads)}
        with open(out / "console.txt", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command], env=env, stdout=log, stderr=subprocess.STDOUT
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            return f"{variant.name}, seed {seed}: exit code {process.returncode}, see {log.name}"
        result = {
            "command": command,
            "settings": settings,
            **read_result(out),
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
        }
        write_text_atomic(done, json_text(result))
        return ""

    def _row(self, variant: SweepVariant, seeds: Sequence[int]) -> Row:
        row = Row(variant.name)
        for seed in seeds:
            result = json.loads((self._run_folder(variant, seed) / "sweep.json").read_text())
            row.seeds.append(seed)
            row.top1.append(result["top1"])
            row.intervals.append(result["interval"])
            row.cpu_seconds.append(result["cpu_seconds"])
        return row


def as_markdown(rows: Sequence[Row]) -> str:
    """The table: mean and standard deviation over the seeds, each seed (with the 95 % interval
    over its episodes, if it is few-shot), CPU seconds per run."""
    lines = ["| variant | top-1 | each seed | CPU s per run |", "| --- | --- | --- | --- |"]
    for row in rows:
        each = ", ".join(
            f"{value:.1f}" + (f" ± {half:.1f}" if half else "")
            for value, half in zip(row.top1, row.intervals)
        )
        seconds = statistics.mean(row.cpu_seconds)
        lines.append(
            f"| {row.name} | {row.mean:.1f} ± {row.deviation:.1f} | {each} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def write_report(rows: Sequence[Row], folder: Path, chance: float) -> None:
    """Write ``results.json``, ``table.md`` and ``plot.png``; ``chance`` in percent."""
    facts: list[dict[str, Any]] = [vars(row) for row in rows]
    results, table, plot = (folder / name for name in _REPORT)
    write_text_atomic(results, json_text(facts, indent=1))
    write_text_atomic(table, as_markdown(rows) + "\n")
    write_atomic(plot, lambda path: _plot(rows, path, chance))


def chance_level(cfg: CfgNode) -> float:
    """Accuracy of guessing, in percent."""
    return task_class(cfg).chance_level(cfg)


def _plot(rows: Sequence[Row], path: str, chance: float) -> None:
    """Bars for means, dots for seeds, a line at chance level."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.9 + 0.4 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    heights = range(len(rows))
    axes.barh(heights, [row.mean for row in rows], color="#9ecae1")
    for height, row in zip(heights, rows):
        axes.plot(row.top1, [height] * len(row.top1), "o", color="#08519c", markersize=4)
    axes.axvline(chance, color="0.4", linestyle=":", label=f"chance, {chance:.3g} %")
    axes.set_yticks(heights, [row.name for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("top-1 in %: mean (bar) and each seed (dots)")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120, format="png")
