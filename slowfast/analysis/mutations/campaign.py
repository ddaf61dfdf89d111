"""A campaign: mutations drawn by a seed, each tried against the tests of its room."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowfast.analysis.mutations import children
from slowfast.analysis.mutations.lines import (
    RecordedTest,
    choose_tests,
    read_record,
    record,
    result_name,
)
from slowfast.analysis.mutations.sites import OPERATORS, Mutation, mutations_of
from slowfast.utils.errors import RunFailure
from slowfast.utils.files import make_dirs, short_hash
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

# Room -> (files that are changed, files of its own tests).
ROOMS = {
    "engine": ("slowfast/engine", "tests/engine/test_*.py"),
    "datasets": ("slowfast/datasets", "tests/datasets/test_*.py"),
    "metrics": ("slowfast/metrics", "tests/metrics/test_*.py"),
    "video": ("slowfast/video", "tests/video/test_*.py"),
    "models/weights": ("slowfast/models/weights", "tests/models/test_*weight*.py"),
}
NOTICED, STOOD_STILL, SURVIVED, NOT_EXECUTED = "noticed", "time limit", "survived", "not executed"
_COPIED = ("slowfast", "tests", "tools", "configs", "exp", "pretrained", "docs")
_RECORD_LIMIT = 3600.0


def sample(
    root: Path, count: int, seed: int, rooms: Iterable[str] = ROOMS, exclude: Sequence[str] = ()
) -> dict[str, list[Mutation]]:
    """``count`` mutations, equally many of each room and, as far as a room has so many, of each
    operator; ``exclude``: ends of the names of files whose mutations are left out of those."""
    rooms = list(rooms)
    drawn = {}
    for number, room in enumerate(rooms):
        found = [m for ms in mutations_of(root, [ROOMS[room][0]]).values() for m in ms]
        share = count // len(rooms) + (number < count % len(rooms))
        chosen = _draw(found, share, seed)
        drawn[room] = [m for m in chosen if not m.path.endswith(tuple(exclude))]
    return drawn


def _draw(found: list[Mutation], count: int, seed: int) -> list[Mutation]:
    # By a hash of its name, so that a change of one file leaves the draws from the others.
    found = sorted(found, key=lambda mutation: short_hash(str(seed), mutation.name))
    by_operator = {o: [m for m in found if m.operator == o] for o in OPERATORS}
    drawn: list[Mutation] = []
    while len(drawn) < count and any(by_operator.values()):
        for mutations in by_operator.values():
            if mutations and len(drawn) < count:
                drawn.append(mutations.pop())
    return drawn


@dataclass
class Campaign:
    """Trials of mutations of the repository ``root``, with results in ``folder``.

    ``seconds``: how long the tests of one mutation may take altogether when nothing is wrong;
    ``workers``: test runs at the same time, each in its own copy of the repository.
    """

    root: Path
    folder: Path
    seconds: float = 90.0
    workers: int = 1

    @property
    def journal(self) -> Path:
        """Results so far, one JSON line each."""
        return self.folder / "results.jsonl"

    def results(self) -> dict[str, dict[str, Any]]:
        """The last result of each mutation, by its name."""
        if not self.journal.is_file():
            return {}
        rows = [json.loads(line) for line in self.journal.read_text().splitlines()]
        return {row["name"]: row for row in rows}

    def run(self, drawn: dict[str, list[Mutation]], again: bool = False) -> list[dict[str, Any]]:
        """Try every mutation that has no result yet (``again``: or has survived); all results."""
        children.prepare()
        make_dirs(self.folder)
        done = self.results()
        if again:
            done = {n: r for n, r in done.items() if r["outcome"] in (NOTICED, STOOD_STILL)}
        tests = {room: self._tests(room) for room in drawn}
        stamps = {m.path: self._stamp(m.path) for ms in drawn.values() for m in ms}
        todo = [
            (room, mutation, mutation.apply((self.root / mutation.path).read_bytes()))
            for room, mutations in drawn.items()
            for mutation in mutations
            if done.get(mutation.name, {}).get("file") != stamps[mutation.path]
        ]
        self._try_all(todo, tests)
        done = self.results()
        return [done[m.name] for mutations in drawn.values() for m in mutations]

    def _stamp(self, path: str) -> str:
        return short_hash((self.root / path).read_bytes())

    # -- which test executes what ----------------------------------------------------------------

    def _tests(self, room: str) -> list[RecordedTest]:
        files = sorted(self.root.glob(ROOMS[room][1]))
        names = [file.relative_to(self.root).as_posix() for file in files]
        return [test for name in names for test in self._recorded(name)]

    def _recorded(self, test_file: str) -> list[RecordedTest]:
        result = make_dirs(self.folder / "lines") / result_name(self.root, test_file)
        if not result.is_file():
            copy = self._copy("record")
            temporary = self._empty("record-tmp")
            work = functools.partial(record, copy, test_file, temporary, result)
            log = self.folder / "lines" / f"{result.stem}.log"
            child = children.Child.fork(work, copy, log, _RECORD_LIMIT)
            while (code := child.poll()) is None:
                time.sleep(0.05)
            children.end_orphans(set())
            if not result.is_file():
                raise RunFailure(f"the tests of {test_file} ended with {code}", f"see {log}")
        tests = read_record(result)
        for test in tests:
            if not test.passed:
                logger.warning("%s fails without any mutation; it is left out", test.name)
        logger.info("%s: %d tests, %.0f s", test_file, len(tests), sum(t.seconds for t in tests))
        return tests

    # -- trials ----------------------------------------------------------------------------------

    def _try_all(
        self, todo: list[tuple[str, Mutation, bytes]], tests: dict[str, list[RecordedTest]]
    ) -> None:
        trials: Iterator[_Trial] = (
            _Trial(room, mutation, content, self._chosen(mutation, tests[room]))
            for room, mutation, content in todo
        )
        slots: dict[int, _Trial | None] = dict.fromkeys(range(self.workers))
        for slot in slots:
            self._copy(f"copy{slot}")
        remaining = True
        while remaining or any(slots.values()):
            for slot, trial in slots.items():
                if trial is not None and trial.is_done(self._log(slot)):
                    self._finish(slot, trial, slots)
                if slots[slot] is None and remaining:
                    slots[slot] = self._next(slot, trials)
                    remaining = slots[slot] is not None
            time.sleep(0.05)

    def _chosen(self, mutation: Mutation, tests: list[RecordedTest]) -> list[RecordedTest]:
        span = range(mutation.first, mutation.last + 1)
        return choose_tests(tests, mutation.path, span, mutation.in_function, self.seconds)

    def _next(self, slot: int, trials: Iterator[_Trial]) -> _Trial | None:
        for trial in trials:
            if trial.tests:
                copy = self.folder / f"copy{slot}" / "repository"
                trial.start(copy, self._empty(f"tmp{slot}"), self._log(slot))
                return trial
            self._write(trial.row(NOT_EXECUTED))
        return None

    def _finish(self, slot: int, trial: _Trial, slots: dict[int, _Trial | None]) -> None:
        self._write(trial.row())
        trial.undo()
        slots[slot] = None
        children.end_orphans({t.child.pid for t in slots.values() if t and t.child})

    def _log(self, slot: int) -> Path:
        return self.folder / f"log{slot}.txt"

    def _write(self, row: dict[str, Any]) -> None:
        logger.info("%s: %s", row["outcome"], row["name"])
        row = row | {"file": self._stamp(row["path"])}
        with open(self.journal, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _copy(self, name: str) -> Path:
        """A copy of the repository as it is now."""
        target = self.folder / name / "repository"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for entry in self.root.iterdir():
            if entry.name in _COPIED:
                leave = shutil.ignore_patterns("__pycache__", ".hypothesis")
                shutil.copytree(entry, target / entry.name, ignore=leave, symlinks=True)
            elif entry.is_file():
                shutil.copy(entry, target)
        return target

    def _empty(self, name: str) -> Path:
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        return make_dirs(folder)


class _Trial:
    """One mutation and the tests it is tried against."""

    def __init__(self, room: str, mutation: Mutation, content: bytes, tests: list[RecordedTest]):
        self.room, self.mutation, self.content, self.tests = room, mutation, content, tests
        self.child: children.Child | None = None
        self._outcome, self._noticed_by, self._seconds = "", "", 0.0

    def start(self, copy: Path, temporary: Path, log: Path) -> None:
        """Write the fault into the copy and start the tests."""
        self._file = copy / self.mutation.path
        self._original = self._file.read_bytes()
        self._file.write_bytes(self.content)
        plugin = _ChosenTests([test.name for test in self.tests])
        files = list(dict.fromkeys(test.file for test in self.tests))
        work = functools.partial(children.run_pytest, files, temporary / "tests", plugin)
        # Other work on the machine slows tests; what stands still stands still much longer.
        limit = 60 + 5 * sum(test.seconds for test in self.tests)
        self.child = children.Child.fork(work, copy, log, limit)

    def undo(self) -> None:
        """Take the fault out of the copy."""
        self._file.write_bytes(self._original)

    def is_done(self, log: Path) -> bool:
        """Whether the tests have ended; then the outcome is known."""
        code = self.child.poll()
        if code is None:
            return False
        self._seconds = round(time.monotonic() - self.child.start, 1)
        if code == -1000:
            self._outcome = STOOD_STILL
        else:
            self._outcome = SURVIVED if code == 0 else NOTICED
        failed = [x for x in log.read_text(errors="replace").splitlines() if _names_a_failure(x)]
        self._noticed_by = failed[0][:200] if failed else f"exit code {code}"
        return True

    def row(self, outcome: str = "") -> dict[str, Any]:
        """The result, as it is written."""
        return {
            "name": self.mutation.name,
            "path": self.mutation.path,
            "room": self.room,
            "operator": self.mutation.operator,
            "line": self.mutation.first,
            "outcome": outcome or self._outcome,
            "by": self._noticed_by if self._outcome == NOTICED else "",
            "tests": len(self.tests),
            "seconds": self._seconds,
        }


def _names_a_failure(line: str) -> bool:
    return line.startswith(("FAILED ", "ERROR "))


class _ChosenTests:
    """Lets pytest run the named tests only, in this order."""

    def __init__(self, names: list[str]):
        self._place = {name: place for place, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        chosen = [item for item in items if item.nodeid in self._place]
        items[:] = sorted(chosen, key=lambda item: self._place[item.nodeid])


def commit_of(root: Path) -> str:
    """The commit of a repository, for the record; empty without git."""
    done = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    )
    return done.stdout.strip()


def read_equivalent(file: Path) -> dict[str, str]:
    """Name of a mutation that changes nothing one can observe -> why, from a file of
    ``name<tab>reason`` lines; lines that start with # are comments."""
    if not file.is_file():
        return {}
    lines = [x for x in file.read_text().splitlines() if x and not x.startswith("#")]
    return {name: reason for name, _, reason in (line.partition("\t") for line in lines)}


def table(rows: list[dict[str, Any]], equivalent: dict[str, str]) -> tuple[str, float]:
    """The Markdown table of the results, and the share that was noticed of those not equivalent."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        noticed = row["outcome"] in (NOTICED, STOOD_STILL)
        kind = "noticed" if noticed else "equivalent" if row["name"] in equivalent else "survived"
        for room in (row["room"], "all"):
            counts[room]["sampled"] += 1
            counts[room][kind] += 1
    columns = ("sampled", "noticed", "survived", "equivalent")
    lines = [f"| room | {' | '.join(columns)} | share |", "| --- " * 6 + "|"]
    share = 0.0
    for room in [*(r for r in counts if r != "all"), "all"]:
        numbers = [counts[room][column] for column in columns]
        share = numbers[1] / max(numbers[0] - numbers[3], 1)
        lines.append(f"| {room} | {' | '.join(map(str, numbers))} | {share:.1%} |")
    return "\n".join(lines), share
