"""Copies of remote files: fetched once for all processes, the oldest ones make room."""

from __future__ import annotations

import multiprocessing

import pytest

from slowfast.utils import copies
from slowfast.utils.copies import Copies
from slowfast.utils.remote import Patience, cache_folder
from tests.storage import unavailable


def _read(address: str, answers) -> None:
    answers.put(Copies(2).of(address).read_bytes()[:4])


def test_one_process_fetches_for_all(storage):
    address = storage.put("copies/a.tar", b"1234" * 9999)
    storage.requests.clear()
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [context.Process(target=_read, args=(address, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [answers.get(timeout=60) for _ in processes] == [b"1234"] * 4
    for process in processes:
        process.join()
    assert len([span for _, _, span in storage.requests if span]) == 1


def test_the_oldest_make_room(storage, monkeypatch):
    addresses = [storage.put(f"copies/{n}.tar", bytes([n]) * 99) for n in range(4)]
    kept = Copies(2)
    for address in addresses:
        kept.of(address)
    assert len(list((cache_folder() / "copies").glob("*.copy"))) == 4  # just used
    monkeypatch.setattr(copies, "RECENT_S", -1.0)
    first = kept.of(addresses[0])
    kept.of(storage.put("copies/9.tar", b"9"))
    found = list((cache_folder() / "copies").glob("*.copy"))
    assert len(found) == 2 and first in found
    assert kept.of(addresses[1]).read_bytes() == bytes([1]) * 99  # fetched again


def test_a_failure_leaves_nothing(storage):
    address = storage.put("copies/a.tar", b"1234")
    storage.faults[:] = [None] + [unavailable] * 30
    with pytest.raises(OSError, match="cannot be fetched"):
        Copies(2, Patience(tries=1)).of(address)
    assert not list((cache_folder() / "copies").glob("*.copy"))
