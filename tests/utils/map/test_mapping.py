"""Work over many files: each once, again only where needed, and never stopped by a crash."""

from __future__ import annotations

import json
import os
import signal

import pytest

from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.map import CRASHED, Share, Where, map_items
from tests.utils.map.work import DiesAtStart, FailsAtStart

ONE, TWO = Where(workers=1), Where(workers=2)


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
    results = map_items(count, [*keys, keys[0]], where=TWO)
    assert list(results) == keys and all(r == {"calls": 1} for r in results.values())


def test_a_journal_saves_work(keys, tmp_path):
    journal = tmp_path / "journal.jsonl"
    map_items(count, keys[:3], journal, where=ONE)
    with journal.open("a") as file:
        file.write('{"key": "half')  # the process died while it wrote this
    results = map_items(count, keys, journal, where=ONE)
    assert all(r == {"calls": 1} for r in results.values())
    # another stamp, or a result that no longer holds: done again
    changed = map_items(count, keys, journal, where=ONE, stamp=lambda k: "2" * (k == keys[1]))
    assert [r["calls"] for r in changed.values()] == [1, 2, 1, 1, 1, 1, 1]
    gone = map_items(count, keys[2:], journal, where=ONE, is_valid=lambda k, r: k != keys[2])
    assert [r["calls"] for r in gone.values()] == [2, 1, 1, 1, 1]


def test_a_crash_is_a_result(keys, tmp_path):
    crashing = [str(tmp_path / f"crash{n}") for n in range(2)]
    journal = tmp_path / "journal.jsonl"
    mixed = [keys[0], crashing[0], *keys[1:4], crashing[1], *keys[4:]]
    results = map_items(count, mixed, journal, where=TWO)
    assert list(results) == mixed
    for key in mixed:
        # a neighbour that was under way during a crash may have been done twice
        assert results[key] == CRASHED if key in crashing else results[key]["calls"] in (1, 2)
    assert {json.loads(line)["key"] for line in journal.read_text().splitlines()} == set(mixed)


def test_a_worker_that_dies_before_its_work_is_no_fault_of_the_items(keys, tmp_path):
    """As when the memory does not hold a network for each worker."""
    with pytest.raises(RunFailure, match="workers end before they take any work"):
        map_items(DiesAtStart(), keys, tmp_path / "journal.jsonl", where=Where(workers=2))
    assert not list(tmp_path.glob("*.calls"))
    with pytest.raises(IsADirectoryError, match="no weights"):
        map_items(FailsAtStart(), keys, where=Where(workers=2))


def test_an_error_of_the_work_is_raised(tmp_path):
    with pytest.raises(IsADirectoryError):
        map_items(count, [str(tmp_path)], where=ONE)


def test_other_options_are_refused_or_begin_anew(keys, tmp_path):
    journal = tmp_path / "journal.jsonl"
    map_items(count, keys[:2], journal, where=ONE, options={"side": 256, "names": ("a",)})
    with pytest.raises(UserError, match=r"side 256, now 128(.|\n)*--anew"):
        map_items(count, keys[:2], journal, where=ONE, options={"side": 128, "names": ("a",)})
    anew = Where(workers=1, anew=True)
    results = map_items(count, keys[:2], journal, where=anew, options={"side": 128})
    assert [r["calls"] for r in results.values()] == [2, 2]


def test_shares_and_their_join_are_one_run(keys, tmp_path):
    whole, journal = tmp_path / "whole.jsonl", tmp_path / "out/journal.jsonl"
    for number in (1, 3):
        map_items(count, keys, journal, where=Where(1, share=Share(number, 3)), options={"a": 1})
    merge = Where(1, merge=True)
    with pytest.raises(UserError, match=r"2 of 7 are not done(.|\n)*--shard 2/3 again"):
        map_items(count, keys, journal, where=merge, options={"a": 1})
    with pytest.raises(UserError, match="a 1, now 2"):
        map_items(count, keys, journal, where=merge, options={"a": 2})
    map_items(count, keys, journal, where=Where(1, share=Share(2, 3)), options={"a": 1})
    results = map_items(count, keys, journal, where=merge, options={"a": 1})
    assert list(results) == keys and all(r == {"calls": 1} for r in results.values())
    for key in keys:
        os.unlink(key)
    map_items(count, keys, whole, where=ONE, options={"a": 1})
    assert journal.read_bytes() == whole.read_bytes()


def test_one_process_at_a_time(keys, tmp_path):
    journal = tmp_path / "journal.jsonl"

    def nested(missing):
        map_items(count, keys, journal, where=ONE)

    with pytest.raises(UserError, match="process"):
        map_items(count, keys, journal, where=ONE, begin=nested)
