"""The simulation against sums by hand and known laws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from slowfast.analysis.scale.simulate import (
    Reading,
    lognormal,
    random_failures,
    run_with_failures,
    step_times,
)
from slowfast.utils.errors import RunFailure


def constant(seconds):
    return lambda rng, shape: np.full(shape, float(seconds))


def of(*values):
    """These values one after the other, whatever the shape."""
    stream = itertools.cycle(values)
    return lambda rng, shape: np.array([next(stream) for _ in range(np.prod(shape))]).reshape(shape)


def steps(processes, number, draw, clips, workers, ahead, compute, seed=0):
    reading = Reading(draw, clips, workers, ahead)
    return step_times(processes, number, reading, compute, np.random.default_rng(seed))


def test_the_slower_of_reading_and_computing_decides():
    # Two workers read four clips in 2 x 0.5 s; a step computes 3 s, or 0.25 s.
    assert np.allclose(steps(3, 4, constant(0.5), 4, 2, 2, 3.0), [4, 7, 10, 13])
    assert np.allclose(steps(3, 4, constant(0.5), 4, 2, 2, 0.25), [1.25, 2.25, 3.25, 4.25])


def test_a_late_clip_delays_all_unless_batches_are_there():
    """The third batch takes 10 s; with one batch ahead nothing is left to do meanwhile."""
    draw = of(1, 1, 10, 1, 1, 1)
    assert np.allclose(steps(1, 4, draw, 1, 1, 9, 1.0), [2, 3, 13, 14])
    # A second worker reads the batches after it, which then are there at once.
    assert np.allclose(steps(1, 5, of(1, 1, 10, 1, 1, 1), 1, 2, 9, 1.0), [2, 3, 12, 13, 14])
    # With one batch ahead, the next is read only once the batch before is in use.
    assert np.allclose(steps(1, 3, constant(1), 1, 1, 1, 5.0), [6, 11, 16])


def test_the_slowest_of_many_decides():
    """The mean of the largest of n exponential times is the harmonic number of n."""

    def exponential(rng, shape):
        return rng.exponential(1.0, shape)

    for processes in (1, 4, 16):
        ends = steps(processes, 4000, exponential, 1, 1, 1, 0.0)
        harmonic = sum(1 / n for n in range(1, processes + 1))
        assert ends[-1] / 4000 == pytest.approx(harmonic, rel=0.05)


def test_lognormal_times_have_mean_and_deviation():
    values = lognormal(0.2, 0.1)(np.random.default_rng(0), (200_000,))
    assert values.min() > 0
    assert values.mean() == pytest.approx(0.2, rel=0.01)
    assert values.std() == pytest.approx(0.1, rel=0.02)


def test_a_failure_by_hand():
    """100 s, a checkpoint of 1 s after every 30; killed at 50 s: 19 s are done again."""
    failures = iter([50.0, float("inf")])
    run = run_with_failures(100, 30, 1, 7, lambda now: next(failures))
    assert run.failures == 1 and run.repeated == 19 and run.restarting == 7
    assert run.stalled == 3 and run.total == 100 + 3 + 19 + 7
    assert run.lost_share == pytest.approx(29 / 129)


def test_a_failure_while_a_checkpoint_is_written_loses_the_interval():
    failures = iter([30.5, float("inf")])
    run = run_with_failures(60, 30, 1, 0, lambda now: next(failures))
    assert run.repeated == 30.5 and run.total == 60 + 1 + 30.5


def test_a_training_that_does_not_get_on_is_an_error(monkeypatch):
    monkeypatch.setattr("slowfast.analysis.scale.simulate._MOST_FAILURES", 50)
    with pytest.raises(RunFailure, match="failures come before the next checkpoint"):
        run_with_failures(100, 30, 1, 1, lambda now: now + 5)


def test_random_failures_lose_what_the_formula_says():
    """Half an interval and a restart for each failure, where failures are rare."""
    interval, stall, restart, between = 600.0, 5.0, 60.0, 50_000.0
    rng = np.random.default_rng(0)
    run = run_with_failures(2e8, interval, stall, restart, random_failures(between / 3600, rng))
    assert run.failures == pytest.approx(run.total / between, rel=0.05)
    expected = stall / interval + (interval / 2 + restart) / between
    assert run.lost_share == pytest.approx(expected, rel=0.05)
