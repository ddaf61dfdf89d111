"""Who gets which items, whatever happens to the workers."""

from __future__ import annotations

import pytest

from slowfast.utils.errors import RunFailure
from slowfast.utils.map.crew import Crew, Report, Worker, work_off
from slowfast.utils.map.work import CRASHED


class Hand(Worker):
    def __init__(self, name: int):
        super().__init__()
        self.name = name

    def send(self, keys):
        pass


class Acted(Crew):
    """A crew of two whose workers go as ``fate(worker, keys)`` says: "", "crash" or "machine"."""

    def __init__(self, fate, crashes_needed=1):
        super().__init__()
        self.fate, self.crashes_needed, self.count, self.most = fate, crashes_needed, 0, []

    def fill(self, most):
        while len(self.workers) < min(2, most):
            self.workers.append(Hand(self.count))
            self.count += 1

    def reports(self):
        self.most += [len(worker.parcels) for worker in self.workers]
        worker = max(self.workers, key=lambda worker: len(worker.parcels))
        keys = worker.parcels[0] if worker.parcels else []
        fate = self.fate(worker, keys)
        if fate:
            return [Report(worker, None, fate == "machine")]
        return [Report(worker, [{"key": key} for key in keys])]

    def close(self):
        pass


def outcome(fate, keys, parcel=1, **options):
    crew = Acted(fate, **options)
    pairs = list(work_off(crew, keys, parcel))
    assert sorted(key for key, _ in pairs) == sorted(keys)  # each once
    return crew, dict(pairs)


KEYS = [str(number) for number in range(40)]


def test_a_worker_has_two_parcels_at_most():
    sizes = []
    crew, results = outcome(lambda worker, keys: sizes.append(len(keys)) or "", KEYS, parcel=8)
    assert results == {key: {"key": key} for key in KEYS} and max(crew.most) == 2
    assert max(sizes) <= 8 and min(sizes) == 1  # smaller towards the end


def test_what_goes_with_its_machine_is_not_to_blame():
    gone = []

    def fate(worker, keys):
        if worker.name < 3 and len(gone) < 3 and worker.name not in gone:
            gone.append(worker.name)
            return "machine"
        return ""

    crew, results = outcome(fate, KEYS, parcel=4)
    assert CRASHED not in results.values() and crew.count == 2 + 3


@pytest.mark.parametrize("needed", [1, 2])
def test_only_the_item_that_ends_workers_is_to_blame(needed):
    tries = []

    def fate(worker, keys):
        if "7" not in keys:
            return ""
        tries.append(worker.alone)
        return "crash"

    _, results = outcome(fate, KEYS, parcel=4, crashes_needed=needed)
    assert [key for key in KEYS if results[key] == CRASHED] == ["7"]
    assert tries == [False, *[True] * needed]


def test_workers_that_never_begin_end_it():
    crew = Acted(lambda worker, keys: "")
    crew.ready = lambda: []
    crew.reports = lambda: [Report(crew.workers[0])]
    with pytest.raises(RunFailure, match="before they take any work"):
        list(work_off(crew, KEYS, 1))
