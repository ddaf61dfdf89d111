"""The runs of a sweep: each is a process of its own, and is not repeated once it has finished."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from slowfast.analysis.results import read_result
from slowfast.analysis.sweep.confusion import CSV, PLOT, Confusion, read_confusion
from slowfast.analysis.sweep.report import REPORT, Row
from slowfast.analysis.sweep.variants import SweepVariant
from slowfast.config.defaults import get_cfg
from slowfast.config.load import load_config
from slowfast.config.node import CfgNode
from slowfast.config.schema import keys_without_effect
from slowfast.engine.tasks import task_class
from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.files import file_hash, make_dirs, write_text_atomic
from slowfast.utils.json_text import json_text
from slowfast.utils.paths import prepare_outputs
from slowfast.utils.processes import ending_with_parent
from slowfast.utils.runtime import cpu_count

_DONE = "sweep.json"
_STARTS = "cpu_seconds.json"  # of every start of a run, null while it runs and if it was cut off
# A training may go on with another value of these, but its test, or the checkpoint that is tested,
# depends on them.
_TESTED = {
    "DATA.CLASS_NAMES",
    "DATA.CLASS_ORDER",
    "DATA.ENSEMBLE_METHOD",
    "DATA.MAX_ERROR_SHARE",
    "DATA.VAL_LIST",
    "FEWSHOT.EPISODES_FILE",
    "FEWSHOT.TEST_EPISODES",
    "FEWSHOT.VAL_EPISODES",
    "MULTIGRID.EVAL_FREQ",
}
_TESTED_SECTIONS = ("TEST.", "TRAIN.")
_SOURCE = re.compile(r"\{out\}/([\w.+/-]+)")  # a file below the folder of the sweep
_RUN = re.compile(r"seed_[0-9]+")

Work = tuple[SweepVariant, int]  # and a seed


class Sweep:
    """Runs below ``folder``; finished ones are not repeated, wherever they were made.

    ``program``: words after the interpreter that start the run command; ``words``: KEY VALUE, which
    win over those of a variant.
    """

    def __init__(self, program: Sequence[str], folder: str | Path, words: Sequence[str]):
        self.program, self.folder, self.words = list(program), make_dirs(folder), list(words)

    def run(
        self,
        variants: Sequence[SweepVariant],
        seeds: Sequence[int],
        jobs: int,
        threads: int = 0,
        part: tuple[int, int] = (1, 1),
    ) -> list[Row]:
        """Train and test all variants with all seeds, ``jobs`` runs at a time; gives their results.

        ``threads`` per run; 0 divides the cores among the jobs. ``part`` (i, n): only every n-th
        run, from the i-th on, and no results. RunFailure if a run fails; UserError if one starts
        from a run that has not finished and is not made here before it.
        """
        threads = threads or max(cpu_count() // jobs, 1)
        work = [(variant, seed) for variant in variants for seed in seeds][part[0] - 1 :: part[1]]
        outputs = [self.run_folder(*pair) / name for pair in work for name in (_DONE, _STARTS)]
        outputs += [self.folder / name for name in (*REPORT, CSV, PLOT)]
        prepare_outputs(outputs, [variant.config for variant in variants], "--out")
        lists = {variant.name: self._lists(variant) for variant, _ in work}
        self._check_bases(work, lists)
        with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(work), unit="run") as bar:
            started: dict[Path, Future[str]] = {}

            def one(pair: Work, awaited: list[Future[str]]) -> str:
                if any(run.result() for run in awaited):
                    failure = f"{_name(pair)}: not started, since the run before it failed"
                else:
                    failure = self._run_one(pair, threads, lists[pair[0].name])
                bar.update()
                return failure

            for pair in work:
                # Runs begin in this order, so that none waits for one that waits for a place.
                awaited = [started[base] for base in self._bases(*pair) if base in started]
                started[self.run_folder(*pair)] = pool.submit(one, pair, awaited)
            failures = [run.result() for run in started.values() if run.result()]
        if failures:
            raise RunFailure(
                f"{len(failures)} of {len(work)} runs failed: {failures[0]}",
                "finished runs are kept: solve the problem and start the sweep again",
            )
        return [] if part[1] > 1 else [self._row(variant, seeds) for variant in variants]

    def gather(self, variants: Sequence[SweepVariant], seeds: Sequence[int]) -> list[Row]:
        """Results of the runs that have finished, of variants with any; none is started.
        RunFailure if there are none."""
        rows = []
        for variant in variants:
            lists = self._lists(variant)
            done = [seed for seed in seeds if self._is_finished(variant, seed, lists)]
            if done:
                rows.append(self._row(variant, done))
        if not rows:
            raise RunFailure(f"no run in {self.folder} has finished", "leave out --gather")
        return rows

    def run_folder(self, variant: SweepVariant, seed: int) -> Path:
        """OUTPUT_DIR of a run."""
        return self.folder / variant.folder / f"seed_{seed}"

    def confusions(self, variants: Sequence[SweepVariant], rows: Sequence[Row]) -> list[Confusion]:
        """Confusion matrices of the rows, in their order; empty unless all of them have one."""
        by_name = {variant.name: variant for variant in variants}
        found = []
        for row in rows:
            runs = [self.run_folder(by_name[row.name], seed) for seed in row.seeds]
            found.append(read_confusion(row.name, runs))
        return [one for one in found if one] if all(found) else []

    def config(self, variant: SweepVariant, seed: int = 0) -> CfgNode:
        """The configuration of a run, with ``{out}`` as it is written: the folder may be moved."""
        return load_config([variant.config], self._words(variant, seed))

    def _words(self, variant: SweepVariant, seed: int) -> list[str]:
        words = [word.replace("{seed}", str(seed)) for word in (*variant.words, *self.words)]
        return [*words, "RNG_SEED", str(seed)]

    def _placed_words(self, variant: SweepVariant, seed: int) -> list[str]:
        return [word.replace("{out}", str(self.folder)) for word in self._words(variant, seed)]

    def _bases(self, variant: SweepVariant, seed: int) -> set[Path]:
        """Folders of the runs that a run takes files from."""
        files = [self.folder / name for name in self._sources(variant, seed)]
        return {parent for file in files for parent in file.parents if _RUN.fullmatch(parent.name)}

    def _sources(self, variant: SweepVariant, seed: int) -> list[str]:
        """The files that ``{out}`` stands before, relative to it."""
        return [name for word in self._words(variant, seed) for name in _SOURCE.findall(word)]

    def _hashes(self, variant: SweepVariant, seed: int) -> dict[str, str]:
        """SHA-256 of the sources that are there."""
        names = self._sources(variant, seed)
        return {n: file_hash(self.folder / n) for n in names if (self.folder / n).is_file()}

    def _check_bases(self, work: Sequence[Work], lists: dict[str, dict[str, str]]) -> None:
        """UserError if a run that has to be made starts from one that is not there by then."""
        before: set[Path] = set()
        for variant, seed in work:
            bases = self._bases(variant, seed) - before
            missing = [str(base) for base in bases if not (base / _DONE).is_file()]
            if missing and not self._is_finished(variant, seed, lists[variant.name]):
                raise UserError(
                    f"{_name((variant, seed))} starts from {min(missing)}, which has not finished",
                    "make that run first, by this sweep (--rows) or by its own",
                )
            before.add(self.run_folder(variant, seed))

    def _lists(self, variant: SweepVariant) -> dict[str, str]:
        """Fingerprints of the lists that the runs of a variant read."""
        cfg = self.config(variant)
        splits = [split for split in ("train", "test") if cfg[split.upper()].ENABLE]
        lists = task_class(cfg).read_lists(cfg, splits)
        return {split: lists[split].fingerprint for split in splits}

    def _run_one(self, pair: Work, threads: int, lists: dict[str, str]) -> str:
        """Run unless finished with the same settings; returns the failure, or an empty text."""
        variant, seed = pair
        if self._is_finished(variant, seed, lists):
            return ""
        out = self.run_folder(variant, seed)
        words = [*self._placed_words(variant, seed), "OUTPUT_DIR", str(out)]
        command = [*self.program, "--cfg", str(variant.config), *words]
        make_dirs(out)
        sources = self._hashes(variant, seed)
        starts = _read_starts(out)
        write_text_atomic(out / _STARTS, json_text([*starts, None]))
        env = ending_with_parent() | {"OMP_NUM_THREADS": str(threads)}
        with open(out / "console.txt", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command], env=env, stdout=log, stderr=subprocess.STDOUT
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        starts.append(usage.ru_utime + usage.ru_stime)
        write_text_atomic(out / _STARTS, json_text(starts))
        if process.returncode:
            return f"{_name(pair)}: exit code {process.returncode}, see {log.name}"
        result = {
            "command": command,
            "settings": _as_json(self.config(variant, seed)),
            "lists": lists,
            "sources": sources,
            **read_result(out),
            "cpu_seconds": None if None in starts else sum(starts),
        }
        write_text_atomic(out / _DONE, json_text(result))
        return ""

    def _is_finished(self, variant: SweepVariant, seed: int, lists: dict[str, str]) -> bool:
        """Whether the run has finished with these settings, lists and weights of earlier runs, in
        any place. The settings, not the command, decide: a configuration file may have changed.
        Weights that were not copied here with the results are those that were there."""
        file = self.run_folder(variant, seed) / _DONE
        if not file.is_file():
            return False
        done, settings = json.loads(file.read_text()), _as_json(self.config(variant, seed))
        old = done.get("settings", {})
        if "lists" not in done:  # of an older version
            return old == settings
        # A key that did not exist then had its default.
        old = _as_json(get_cfg()) | old
        compared = settings.keys() - _places()
        sources, known = self._hashes(variant, seed), done.get("sources", {})
        return (
            done["lists"] == lists
            and all(old.get(key) == settings[key] for key in compared)
            and all(known.get(name, digest) == digest for name, digest in sources.items())
        )

    def _row(self, variant: SweepVariant, seeds: Sequence[int]) -> Row:
        row = Row(variant.name, variant.group)
        for seed in seeds:
            result = json.loads((self.run_folder(variant, seed) / _DONE).read_text())
            row.seeds.append(seed)
            row.top1.append(result["top1"])
            row.intervals.append(result["interval"])
            row.cpu_seconds.append(result["cpu_seconds"])
        return row


def _read_starts(run: Path) -> list[float | None]:
    """CPU seconds of the starts of a run that has not finished; none of one that is repeated."""
    file = run / _STARTS
    started = file.is_file() and not (run / _DONE).is_file()
    return json.loads(file.read_text()) if started else []


def parse_part(text: str) -> tuple[int, int]:
    """``i/n`` of ``--only``; UserError unless 1 <= i <= n."""
    first, _, second = text.partition("/")
    if first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second):
        return int(first), int(second)
    raise UserError(f"{text!r} is no part", "write the first of three parts as 1/3", "--only")


def chance_level(cfg: CfgNode) -> float:
    """Accuracy of guessing, in percent."""
    return task_class(cfg).chance_level(cfg)


def _as_json(cfg: CfgNode) -> dict[str, Any]:
    return json.loads(json.dumps(cfg.flat(), default=str))


def _name(pair: Work) -> str:
    return f"{pair[0].name}, seed {pair[1]}"


def _places() -> set[str]:
    """Keys that say where data and devices are, how much is written and the like, which differ
    between machines and say nothing about a result; the lists are compared instead."""
    free = keys_without_effect() - _TESTED
    return {key for key in free if not key.startswith(_TESTED_SECTIONS)} | {"NUM_GPUS"}
