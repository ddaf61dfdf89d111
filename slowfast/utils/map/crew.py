"""Workers that share items among them, whatever the workers are; some of them may go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from slowfast.utils.errors import RunFailure
from slowfast.utils.map.work import CRASHED, Result

# Parcels in the hands of a worker: one that is worked, one that waits for it. No more: what a
# worker holds is lost with it, and cannot go to a faster one.
_PARCELS = 2
_PARCELS_LEFT = 4  # parcels that each worker is still to get when they begin to become smaller
_MOST_FAILED_STARTS = 5


class Worker(ABC):
    """One that works on parcels of keys, in their order. ``alone``: it has one item only, because
    that may have ended another worker."""

    def __init__(self) -> None:
        self.parcels: deque[list[str]] = deque()
        self.alone = False

    def give(self, keys: list[str], alone: bool = False) -> None:
        """Hand it a parcel."""
        self.parcels.append(keys)
        self.alone = alone
        self.send(keys)

    @abstractmethod
    def send(self, keys: list[str]) -> None:
        """Send a parcel to where it is worked."""


class Report(NamedTuple):
    """``results`` of the first parcel of a worker; None if the worker has gone, in which case
    ``with_machine`` says that its machine has gone too, so that no item is to blame."""

    worker: Worker
    results: list[Result] | None = None
    with_machine: bool = False


class Crew(ABC):
    """The workers that there are. ``crashes_needed``: how often an item has to end a worker that
    had no other before it is to blame."""

    crashes_needed = 1

    def __init__(self) -> None:
        self.workers: list[Worker] = []

    @abstractmethod
    def fill(self, most: int) -> None:
        """Start the workers that are missing, but no more than ``most`` in all."""

    @abstractmethod
    def reports(self) -> list[Report]:
        """What has happened; waits for it, but not for ever."""

    @abstractmethod
    def close(self) -> None:
        """End the workers."""

    def ready(self) -> list[Worker]:
        """Those that can be given work."""
        return self.workers


def work_off(crew: Crew, keys: Sequence[str], parcel: int) -> Iterator[tuple[str, Result]]:
    """(key, result) of every key, as they come; ``parcel``: items that a worker gets at a time.

    What a worker had when it went is given out again: one by one, each to a worker that has nothing
    else, to find the item that ends workers (:data:`CRASHED`).
    """
    waiting, suspects = deque(keys), deque()
    crashes: Counter[str] = Counter()
    failed_starts = 0
    while waiting or suspects or any(worker.parcels for worker in crew.workers):
        in_hand = sum(len(keys) for worker in crew.workers for keys in worker.parcels)
        crew.fill(len(waiting) + len(suspects) + in_hand)
        _hand_out(crew, waiting, suspects, parcel)
        for report in crew.reports():
            worker = report.worker
            if report.results is not None:
                failed_starts = 0
                yield from zip(worker.parcels.popleft(), report.results, strict=True)
                continue
            crew.workers.remove(worker)
            lost = [key for keys in worker.parcels for key in keys]
            failed_starts += not lost and not report.with_machine
            if failed_starts >= _MOST_FAILED_STARTS:
                remedy = "see their messages; with fewer --workers each has more memory"
                raise RunFailure("workers end before they take any work", remedy)
            if report.with_machine:
                waiting.extendleft(reversed(lost))
                continue
            crashes.update(lost if worker.alone else ())
            if worker.alone and crashes[lost[0]] >= crew.crashes_needed:
                yield lost[0], dict(CRASHED)
            else:
                suspects.extend(lost)


def _hand_out(crew: Crew, waiting: deque[str], suspects: deque[str], parcel: int) -> None:
    """Suspects come first: until they are given out, no worker gets anything else."""
    for worker in crew.ready():
        if suspects and not worker.parcels:
            worker.give([suspects.popleft()], alone=True)
        while waiting and not suspects and len(worker.parcels) < _PARCELS:
            if worker.alone and worker.parcels:
                break
            share = len(waiting) // (_PARCELS_LEFT * len(crew.workers))
            size = max(1, min(parcel, share))
            worker.give([waiting.popleft() for _ in range(size)])
