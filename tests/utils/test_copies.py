"""Copies of remote files: fetched once for all processes, the oldest ones make room."""

from __future__ import annotations

import multiprocessing

import pytest

from slowfast.utils import files
from slowfast.utils.copies import Copies
from slowfast.utils.remote import RetryPolicy, cache_folder, local_copy
from tests.storage import unavailable


def _read(address: str, answers) -> None:
    answers.put(Copies(2).of(address).read_bytes()[:4])


def _read_weights(address: str, answers) -> None:
    answers.put(local_copy(address).read_bytes()[:4])


def test_earlier_versions_and_leftovers_are_removed(storage, monkeypatch):
    monkeypatch.setattr("slowfast.utils.remote._RECENT_S", -1.0)
    first = local_copy(storage.put("copies/w.pyth", b"first"))
    second = local_copy(storage.put("copies/w.pyth", b"second"))
    assert second.read_bytes() == b"second" and not first.exists()
    address = storage.put("copies/k.tar", b"1234")
    copy = Copies(2).of(address)
    copy.unlink()
    left = copy.with_name(f"{files._temporary_start(copy)}999999999-0123abcd.tmp")
    left.touch()  # of a download that was killed
    Copies(2).of(address)
    assert copy.exists() and not left.exists()


@pytest.mark.parametrize("_read", [_read, _read_weights])
def test_one_process_fetches_for_all(storage, _read):
    address = storage.put(f"copies/{_read.__name__}.tar", b"1234" * 9999)
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
    monkeypatch.setattr("slowfast.utils.remote._RECENT_S", -1.0)
    first = kept.of(addresses[0])
    kept.of(storage.put("copies/9.tar", b"9"))
    found = list((cache_folder() / "copies").glob("*.copy"))
    assert len(found) == 2 and first in found
    assert kept.of(addresses[1]).read_bytes() == bytes([1]) * 99  # fetched again


def test_a_failure_leaves_nothing(storage):
    address = storage.put("copies/a.tar", b"1234")
    storage.faults[:] = [None] + [unavailable] * 30
    with pytest.raises(OSError, match="cannot be fetched"):
        Copies(2, RetryPolicy(tries=1)).of(address)
    assert not list((cache_folder() / "copies").glob("*.copy"))
