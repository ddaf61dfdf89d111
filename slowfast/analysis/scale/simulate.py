"""A training as a sequence of steps that all processes take together: late readers and failures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slowfast.utils.errors import RunFailure

_MOST_FAILURES = 1_000_000

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
"""Random seconds of a shape."""


def lognormal(mean: float, deviation: float) -> Draw:
    """Seconds with this mean and standard deviation, which are never negative."""
    variance = np.log1p((deviation / mean) ** 2)
    location = np.log(mean) - variance / 2
    return lambda rng, shape: rng.lognormal(location, np.sqrt(variance), shape)


@dataclass(frozen=True)
class Reading:
    """How a process reads (:class:`slowfast.datasets.loader.Loader`): each of ``workers`` takes the
    next clip when it is free; at most ``ahead`` batches of ``clips`` that are not in use are read.
    """

    seconds_per_clip: Draw
    clips: int
    workers: int
    ahead: int


def step_times(
    processes: int, steps: int, reading: Reading, compute: float, rng: np.random.Generator
) -> np.ndarray:
    """Seconds from the start of the loaders to the end of each of ``steps`` steps.

    A step begins when the step before has ended and the slowest process has its batch, and takes
    ``compute`` seconds with the exchange of gradients.
    """
    rows = np.arange(processes)
    free = np.zeros((processes, reading.workers))  # when each worker can take its next clip
    starts, ends = np.zeros(steps), np.zeros(steps)
    for step in range(steps):
        allowed = starts[step - reading.ahead] if step >= reading.ahead else 0.0
        ready = np.zeros(processes)
        for seconds in reading.seconds_per_clip(rng, (reading.clips, processes)):
            worker = free.argmin(1)
            done = np.maximum(free[rows, worker], allowed) + seconds
            free[rows, worker] = done
            ready = np.maximum(ready, done)
        starts[step] = max(ends[step - 1] if step else 0.0, ready.max())
        ends[step] = starts[step] + compute
    return ends


@dataclass(frozen=True)
class Run:
    """Seconds of a whole training: ``total``, of which ``stalled`` by checkpoints, ``repeated``
    because a failure had undone them, and ``restarting``."""

    total: float
    stalled: float
    repeated: float
    restarting: float
    failures: int

    @property
    def lost_share(self) -> float:
        return (self.stalled + self.repeated + self.restarting) / self.total


def run_with_failures(
    useful: float,
    interval: float,
    stall: float,
    restart: float,
    next_failure: Callable[[float], float],
) -> Run:
    """A training of ``useful`` seconds of steps, with a checkpoint after every ``interval`` of
    them, which takes ``stall`` seconds; ``next_failure(now)`` is the time of the first failure
    after ``now``. What was done since the last checkpoint is done again after ``restart``
    seconds, in which nothing fails.
    """
    now = done = stalled = repeated = restarting = 0.0
    failures = 0
    failure = next_failure(0.0)
    while done < useful:
        work = min(interval, useful - done)
        cost = work + (stall if done + work < useful else 0.0)
        if now + cost <= failure:
            now, done, stalled = now + cost, done + work, stalled + cost - work
            continue
        failures += 1
        if failures > _MOST_FAILURES:
            remedy = "write checkpoints more often, or give longer times between failures"
            raise RunFailure("failures come before the next checkpoint, again and again", remedy)
        repeated += failure - now
        restarting += restart
        now = failure + restart
        failure = next_failure(now)
    return Run(now, stalled, repeated, restarting, failures)


def random_failures(hours_between: float, rng: np.random.Generator) -> Callable[[float], float]:
    """Failures that come at any time alike."""
    return lambda now: now + rng.exponential(3600 * hours_between)
