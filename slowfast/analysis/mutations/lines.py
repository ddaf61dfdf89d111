"""Which test executes which lines: what decides the tests that a mutation is tried against."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowfast.analysis.mutations import recorder
from slowfast.analysis.mutations.children import run_pytest
from slowfast.utils.files import short_hash, write_text_atomic


@dataclass
class RecordedTest:
    """A test: seconds it takes, whether it passes, executed lines by file."""

    name: str
    seconds: float
    passed: bool
    lines: dict[str, set[int]]

    @property
    def file(self) -> str:
        """The file it stands in."""
        return self.name.partition("::")[0]


class _RecordingPlugin:
    """Attributes the lines of the recorder's file to the test that has just run."""

    def __init__(self, file: Path, seen: recorder.Recorder):
        self.file, self.recorder = file, seen
        self.tests: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._take()  # lines of imports and of collection belong to no test

    def pytest_runtest_logreport(self, report: Any) -> None:
        test = self.tests.setdefault(report.nodeid, {"seconds": 0.0, "passed": True, "lines": {}})
        test["seconds"] = round(test["seconds"] + report.duration, 3)
        test["passed"] &= report.passed or report.skipped

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.tests[nodeid]["lines"] = self._take()

    def _take(self) -> dict[str, list[int]]:
        text = self.file.read_text()
        os.truncate(self.file, 0)
        self.recorder.forget()
        lines: dict[str, set[int]] = defaultdict(set)
        for row in text.splitlines():
            path, _, number = row.rpartition(":")
            lines[path].add(int(number))
        return {path: sorted(numbers) for path, numbers in lines.items()}


def record(root: Path, test_file: str, folder: Path, result: Path) -> int:
    """Run one test file of the current folder ``root`` and write what its tests execute to
    ``result``; for a process of its own, whose environment it changes."""
    lines = folder / "lines.txt"
    lines.write_text("")
    shutil.copy(recorder.__file__, folder / "sitecustomize.py")
    os.environ.update({recorder.FILE: str(lines), recorder.ROOT: str(root)})
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])
    seen = recorder.Recorder(str(lines), str(root))
    plugin = _RecordingPlugin(lines, seen)
    seen.install()
    code = run_pytest(["--maxfail=1000", test_file], folder / "tmp", plugin)
    write_text_atomic(result, json.dumps(plugin.tests))
    return code


def result_name(root: Path, test_file: str) -> str:
    """Name of the record of a test file; another one if the package or the file has changed."""
    files = sorted((root / "slowfast").rglob("*.py"))
    helpers = sorted((root / "tests").glob("*.py"))
    content = [file.read_bytes() for file in (*files, *helpers, root / test_file)]
    return f"{test_file.replace('/', '.')}-{short_hash(*content)}.json"


def read_record(file: Path) -> list[RecordedTest]:
    """The tests of a record."""
    return [
        RecordedTest(
            name,
            facts["seconds"],
            facts["passed"],
            {path: set(numbers) for path, numbers in facts["lines"].items()},
        )
        for name, facts in json.loads(file.read_text()).items()
    ]


def choose_tests(
    tests: list[RecordedTest], path: str, span: range, in_function: bool, most_seconds: float
) -> list[RecordedTest]:
    """The tests that execute a line of ``span`` of the file ``path``, nearest first.

    Lines outside of functions run at import: every test that executes something of the file is
    taken. Nearest are those of the file's own tests, then the fastest; as many as together take
    ``most_seconds``, but at least one.
    """
    own = f"test_{Path(path).stem}.py"
    chosen = [
        test
        for test in tests
        if test.passed and _touches(test.lines.get(path, set()), span, in_function)
    ]
    chosen.sort(key=lambda test: (Path(test.file).name != own, test.seconds))
    total, kept = 0.0, []
    for test in chosen:
        total += test.seconds
        if kept and total > most_seconds:
            break
        kept.append(test)
    return kept


def _touches(lines: set[int], span: range, in_function: bool) -> bool:
    return any(line in lines for line in span) if in_function else bool(lines)
