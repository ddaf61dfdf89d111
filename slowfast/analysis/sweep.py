"""A sweep: the same recipe for several networks and seeds, one table, one picture."""

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
from slowfast.utils.runtime import cpu_count


@dataclass(frozen=True)
class Variant:
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
) -> list[Variant]:
    """Each configuration, with each value of ``key`` if one is varied; names are distinct."""
    files = [Path(config) for config in configs]
    pairs = [(file, value) for file in files for value in (values if key else [""])]
    found = [
        Variant(
            " ".join(filter(None, (file.stem if len(files) > 1 or not key else "", value))),
            file,
            (key, value) if key else (),
        )
        for file, value in pairs
    ]
    names = [variant.name for variant in found]
    if len(set(names)) < len(names):
        raise UserError(f"rows would have equal names: {', '.join(names)}", "", "--cfg")
    return found


class Sweep:
    """Runs below ``folder``; finished ones are not repeated.

    ``program``: words after the interpreter that start the run command; ``words``: KEY VALUE.
    """

    def __init__(self, program: Sequence[str], folder: str | Path, words: Sequence[str]):
        self.program, self.folder, self.words = list(program), make_dirs(folder), list(words)

    def run(
        self, variants: Sequence[Variant], seeds: Sequence[int], jobs: int, threads: int = 0
    ) -> list[Row]:
        """Train and test all of them, ``jobs`` at a time, with ``threads`` each (0: all cores
        divided among them); RunFailure names those that failed."""
        threads = threads or max(cpu_count() // jobs, 1)
        work = [(variant, seed) for variant in variants for seed in seeds]
        with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(work), unit="run") as bar:

            def one(pair: tuple[Variant, int]) -> str:
                failure = self._run_one(*pair, threads)
                bar.update()
                return failure

            failures = [text for text in pool.map(one, work) if text]
        if failures:
            raise RunFailure(
                f"{len(failures)} of {len(work)} runs failed: {failures[0]}",
                "what has finished is kept: mend and start it again",
            )
        return [self._row(variant, seeds) for variant in variants]

    def _place(self, variant: Variant, seed: int) -> Path:
        return self.folder / variant.name.replace(" ", "_").replace("/", "_") / f"seed_{seed}"

    def _run_one(self, variant: Variant, seed: int, threads: int) -> str:
        """Run unless it has finished with the same settings; gives the failure, or ''."""
        out = self._place(variant, seed)
        words = [*self.words, *variant.words, "RNG_SEED", str(seed)]
        command = [*self.program, "--cfg", str(variant.config), *words, "OUTPUT_DIR", str(out)]
        done = out / "sweep.json"
        # A file that has changed since is another recipe, though the command is the same.
        settings = load_config([variant.config], words).flat()
        settings = json.loads(json.dumps(settings, default=str))
        if done.is_file() and json.loads(done.read_text()).get("settings") == settings:
            return ""
        make_dirs(out)
        env = os.environ | {"OMP_NUM_THREADS": str(threads)}
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
        write_text_atomic(done, json.dumps(result))
        return ""

    def _row(self, variant: Variant, seeds: Sequence[int]) -> Row:
        row = Row(variant.name)
        for seed in seeds:
            result = json.loads((self._place(variant, seed) / "sweep.json").read_text())
            row.seeds.append(seed)
            row.top1.append(result["top1"])
            row.intervals.append(result["interval"])
            row.cpu_seconds.append(result["cpu_seconds"])
        return row


def as_markdown(rows: Sequence[Row]) -> str:
    """The table: mean and standard deviation over the seeds, each seed (with the 95 % interval
    over its episodes, if it is few-shot), CPU seconds per run."""
    lines = ["| variant | top-1 | each seed | CPU s a run |", "| --- | --- | --- | --- |"]
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
    """``results.json``, ``table.md`` and ``plot.png``."""
    facts: list[dict[str, Any]] = [vars(row) for row in rows]
    write_text_atomic(folder / "results.json", json.dumps(facts, indent=1))
    write_text_atomic(folder / "table.md", as_markdown(rows) + "\n")
    write_atomic(folder / "plot.png", lambda path: _plot(rows, path, chance))


def chance_level(cfg: CfgNode) -> float:
    """Accuracy of guessing, in percent."""
    return task_class(cfg).chance_level(cfg)


def check_plotting() -> None:
    """UserError that names the extra where the plotting library is missing."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise UserError("pictures need matplotlib", 'pip install -e ".[plot]"') from None


def _plot(rows: Sequence[Row], path: str, chance: float) -> None:
    """Bars of means, dots for seeds, a line at chance."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.9 + 0.4 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = range(len(rows))
    axes.barh(places, [row.mean for row in rows], color="#9ecae1")
    for place, row in zip(places, rows):
        axes.plot(row.top1, [place] * len(row.top1), "o", color="#08519c", markersize=4)
    axes.axvline(chance, color="0.4", linestyle=":", label=f"chance, {chance:.3g} %")
    axes.set_yticks(places, [row.name for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("top-1 in %: mean (bar) and each seed (dots)")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120, format="png")
