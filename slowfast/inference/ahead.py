"""Work that threads do ahead of the one who waits for its results, in order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(jobs: Iterable[Callable[[], T]], workers: int, depth: int) -> Iterator[T]:
    """The results of ``jobs`` in their order; at most ``depth`` of them are computed, or wait,
    before they are asked for. An error is raised in place of its result.

    Decoders and resizing leave Python while they work, so that threads run at the same time. The
    threads end with the iteration, however it ends.
    """
    waiting = iter(jobs)
    pool = ThreadPoolExecutor(workers, "slowfast-reader")
    try:
        begun = deque(pool.submit(job) for job in itertools.islice(waiting, depth))
        while begun:
            result = begun.popleft().result()
            begun.extend(pool.submit(job) for job in itertools.islice(waiting, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
