"""Timing of alternatives: they are run in turn, in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from slowfast.utils.runtime import Runtime


def alternate(
    functions: Sequence[Callable[[int], object]],
    rounds: int,
    runtime: Runtime | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Seconds of each function in each round; ``function(round)`` is called once as a warm-up."""
    seconds: list[list[float]] = [[] for _ in functions]
    for number in range(-1, rounds):
        for function, times in zip(functions, seconds):
            if runtime:
                runtime.synchronize()
            start = clock()
            function(max(number, 0))
            if runtime:
                runtime.synchronize()
            if number >= 0:
                times.append(clock() - start)
    return seconds


def median_ms(seconds: Sequence[float]) -> float:
    """Median in milliseconds, rounded to two decimals."""
    return round(1000 * statistics.median(seconds), 2)


def ratio(ours: Sequence[float], floor: Sequence[float]) -> float:
    """Ratio of the total times, which weights each round by its amount of work."""
    return round(sum(ours) / sum(floor), 3)
