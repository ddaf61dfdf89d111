"""Mutation testing: which faults are made, which tests they meet, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slowfast.analysis.mutations import campaign, children, recorder
from slowfast.analysis.mutations.lines import RecordedTest, choose_tests
from slowfast.analysis.mutations.sites import OPERATORS, find_mutations
from tests.conftest import run_tool

SOURCE = b'''"""Text of 3 words."""
LIMIT: int = 4


def scale(values, factor=2.0):
    """Not 5, but true and false."""
    logger.info("never more than 6", values[7])
    if not values or factor < 1:
        raise ValueError(f"more than {8}", 9)
    self.done = True
    return clip(values, factor) + max(values, factor)


def __repr__(self):
    return str(10)
'''


def changes(source: bytes) -> list[str]:
    return [f"{m.operator}: {m.before} -> {m.after}" for m in find_mutations("a.py", source)]


def test_every_operator_and_nothing_that_people_read():
    assert sorted(changes(SOURCE)) == sorted(
        [
            "off by one: 4 -> (5)",
            "constant: 2.0 -> (4.0)",
            "negated condition: not values or factor < 1 -> (not (not values or factor < 1))",
            "boolean: not values or factor < 1 -> (not values and factor < 1)",
            "boolean: not values -> (values)",
            "comparison: factor < 1 -> (factor <= 1)",
            "off by one: 1 -> (0)",
            'removed statement: raise ValueError(f"more than {8}", 9) -> pass',
            "removed statement: self.done = True -> pass",
            "constant: True -> (False)",
            "return value: return clip(values, factor) + max(values, factor) -> return None",
            "arithmetic: clip(values, factor) + max(values, factor) -> "
            "(clip(values, factor) - max(values, factor))",
            "swapped arguments: clip(values, factor) -> (clip(factor, values))",
        ]
    )
    assert {text.partition(":")[0] for text in changes(SOURCE)} == set(OPERATORS)


def test_a_fault_changes_its_place_only():
    source = "größe = [1, 2]\ntext = 'ä' * 2 + größe[1]\n".encode()
    for mutation in find_mutations("a.py", source):
        changed = mutation.apply(source)
        compile(changed, "a.py", "exec")
        assert changed != source and changed.startswith(source[: mutation.start])
    names = [m.name for m in find_mutations("a.py", b"a = f(1) if f(1) else 1\n")]
    assert len(set(names)) == len(names)  # equal faults of one scope are told apart


def test_nearest_tests_first():
    def test(name, seconds, lines, passed=True):
        return RecordedTest(name, seconds, passed, {"slowfast/engine/step.py": lines})

    tests = [
        test("tests/engine/test_runs.py::a", 9.0, {1, 5}),
        test("tests/engine/test_runs.py::b", 1.0, {5}),
        test("tests/engine/test_step.py::c", 2.0, {5}),
        test("tests/engine/test_step.py::d", 0.1, {8}),
        test("tests/engine/test_step.py::e", 0.1, {5}, passed=False),
    ]

    def chosen(span, in_function=True, most=90.0):
        found = choose_tests(tests, "slowfast/engine/step.py", span, in_function, most)
        return [t.name[-1] for t in found]

    assert chosen(range(4, 6)) == ["c", "b", "a"]
    assert chosen(range(4, 6), most=3.5) == ["c", "b"]
    assert chosen(range(4, 6), most=0.5) == ["c"]  # one at least
    assert chosen(range(6, 8)) == []
    assert chosen(range(6, 8), in_function=False) == ["d", "c", "b", "a"]


def test_the_sample_is_equal_per_room_and_does_not_move(tmp_path):
    files = {"engine/a.py": "f(1, 2)\n" * 9, "metrics/b.py": "x = a < b\n" * 9}
    for name, text in files.items():
        (tmp_path / "slowfast" / name).parent.mkdir(parents=True)
        (tmp_path / "slowfast" / name).write_text(text)
    drawn = campaign.sample(tmp_path, 9, 0, ["engine", "metrics"])
    assert [len(mutations) for mutations in drawn.values()] == [5, 4]
    assert {m.operator for m in drawn["engine"]} == {
        "off by one", "removed statement", "swapped arguments",
    }  # fmt: skip
    again = campaign.sample(tmp_path, 9, 0, ["engine", "metrics"], ["b.py"])
    assert again["engine"] == drawn["engine"] and again["metrics"] == []
    assert campaign.sample(tmp_path, 9, 1, ["engine"]) != {"engine": drawn["engine"]}


def test_lines_of_other_processes_are_recorded(tmp_path):
    (tmp_path / "slowfast").mkdir()
    (tmp_path / "slowfast" / "__init__.py").touch()
    (tmp_path / "slowfast" / "a.py").write_text(
        "def f(x):\n    if x:\n        return 1\n    return 2\n"
    )
    (tmp_path / "sitecustomize.py").write_text(Path(recorder.__file__).read_text())
    lines = tmp_path / "lines.txt"
    env = os.environ | {"PYTHONPATH": str(tmp_path), recorder.FILE: str(lines)}
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from slowfast.a import f; f(0); f(0)"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=env | {recorder.ROOT: str(tmp_path)},
        check=True,
    )
    recorded = lines.read_text().splitlines()
    assert recorded.count("slowfast/a.py:4") == 1 and "slowfast/a.py:3" not in recorded


def test_nothing_is_left_of_a_process_that_stands_still(tmp_path):
    children.prepare()
    before = children._children()
    mark = tmp_path / "mark"

    def stand_still() -> int:
        subprocess.Popen(["sleep", "1234.5"], start_new_session=True)
        mark.touch()
        time.sleep(1000)
        return 0

    child = children.Child.fork(stand_still, tmp_path, tmp_path / "log", 2.0)
    while (code := child.poll()) is None:
        time.sleep(0.02)
    assert code == -1000 and mark.exists()
    children.end_orphans(before)
    assert children._children() == before


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A repository of one file and one test, which looks at a part of the file."""
    files = {
        "slowfast/__init__.py": "",
        "slowfast/metrics/__init__.py": "",
        "slowfast/metrics/a.py": (
            "def larger(a, b):\n    return a > b\n\n\ndef twice(a):\n    return a * 2\n\n\n"
            "def unused(a):\n    return a\n"
        ),
        "tests/metrics/test_a.py": (
            "from slowfast.metrics.a import larger, twice\n\n\n"
            "def test_larger():\n    assert larger(2, 1) and not larger(1, 2)\n\n\n"
            "def test_twice():\n    assert twice(0) == 0\n"
        ),
    }
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text)
    return tmp_path / "root"


def test_a_campaign(checkout, tmp_path):
    out = tmp_path / "out"
    words = ["--root", checkout, "--out", out, "--rooms", "metrics", "--count", "20"]
    done = run_tool("mutate.py", *words)
    assert done.returncode == 1, done.stderr
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    outcomes = {row["name"].partition("a.py ")[2]: row["outcome"] for row in rows}
    assert outcomes == {
        "larger: comparison: a > b -> (a >= b)": "survived",
        "twice: arithmetic: a * 2 -> (a / 2)": "survived",
        "larger: return value: return a > b -> return None": "noticed",
        "twice: off by one: 2 -> (3)": "survived",
        "twice: return value: return a * 2 -> return None": "noticed",
        "unused: return value: return a -> return None": "not executed",
    }
    assert "| metrics | 6 | 2 | 4 | 0 | 33.3% |" in done.stdout
    # A better test notices more; only survivors are tried again, only when that is asked for.
    test = checkout / "tests/metrics/test_a.py"
    test.write_text(test.read_text().replace("twice(0) == 0", "twice(3) == 6"))
    (checkout / "tests/equivalent_mutations.tsv").write_text(
        "slowfast/metrics/a.py unused: return value: return a -> return None\tnobody calls it\n"
    )
    assert "| metrics | 6 | 2 | 3 | 1 |" in run_tool("mutate.py", *words).stdout
    done = run_tool("mutate.py", *words, "--again", "--target", "0.8")
    assert done.returncode == 0 and "| metrics | 6 | 4 | 1 | 1 | 80.0% |" in done.stdout
    assert "nobody calls it" in done.stdout
    assert len((out / "results.jsonl").read_text().splitlines()) == 10
    assert (checkout / "slowfast/metrics/a.py").read_text().count("return") == 3


def test_wrong_words(tmp_path):
    done = run_tool("mutate.py", "--out", tmp_path, "--rooms", "kitchen")
    assert done.returncode == 2 and "no room 'kitchen'" in done.stderr
    done = run_tool("mutate.py", "--out", tmp_path, "--root", tmp_path)
    assert done.returncode == 2 and "there are no tests" in done.stderr
