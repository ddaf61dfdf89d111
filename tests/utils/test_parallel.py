"""Work over many files: each once, again only where needed, and never stopped by a crash."""

from __future__ import annotations

import json
import os
import signal

import pytest

from slowfast.utils.parallel import CRASHED, map_files


def count(key: str) -> dict:
    """Takes note of the call beside the file; crashes, as a decoder may, where told to."""
    if os.path.basename(key).startswith("crash"):
        os.kill(os.getpid(), signal.SIGKILL)
    with open(key, "a") as file:
        file.write("x")
    return {"calls": os.path.getsize(key)}


@pytest.fixture
def keys(tmp_path):
    return [str(tmp_path / f"{n}.txt") for n in range(7)]


def test_every_key_once_in_order(keys):
    results = map_files(count, [*keys, keys[0]], workers=2)
    assert list(results) == keys and all(r == {"calls": 1} for r in results.values())


def test_a_journal_saves_work(keys, tmp_path):
    journal = tmp_path / "journal.jsonl"
    map_files(count, keys[:3], journal, workers=1)
    with journal.open("a") as file:
        file.write('{"key": "half')  # the process died while it wrote this
    results = map_files(count, keys, journal, workers=1)
    assert all(r == {"calls": 1} for r in results.values())
    # another stamp, or a result that no longer holds: done again
    changed = map_files(count, keys, journal, workers=1, stamp=lambda k: "2" * (k == keys[1]))
    assert [r["calls"] for r in changed.values()] == [1, 2, 1, 1, 1, 1, 1]
    gone = map_files(count, keys[2:], journal, workers=1, is_valid=lambda k, r: k != keys[2])
    assert [r["calls"] for r in gone.values()] == [2, 1, 1, 1, 1]


def test_a_crash_is_a_result(keys, tmp_path):
    crashing = [str(tmp_path / f"crash{n}") for n in range(2)]
    journal = tmp_path / "journal.jsonl"
    mixed = [keys[0], crashing[0], *keys[1:4], crashing[1], *keys[4:]]
    results = map_files(count, mixed, journal, workers=2)
    assert list(results) == mixed
    for key in mixed:
        # a neighbour that was under way during a crash may have been done twice
        assert results[key] == CRASHED if key in crashing else results[key]["calls"] in (1, 2)
    assert {json.loads(line)["key"] for line in journal.read_text().splitlines()} == set(mixed)


def test_an_error_of_the_work_is_raised(tmp_path):
    with pytest.raises(IsADirectoryError):
        map_files(count, [str(tmp_path)], workers=1)
