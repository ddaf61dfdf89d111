"""Tables of the simulation: late readers, and failures, by number of GPUs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from slowfast.analysis.markdown import table
from slowfast.analysis.scale.needs import Constants, Needs
from slowfast.analysis.scale.simulate import (
    Draw,
    Reading,
    lognormal,
    random_failures,
    run_with_failures,
    step_times,
)

CLIPS = 32  # of a GPU and step
_STEPS, _FIRST = 600, 100  # steps, and those that are not counted
_AHEAD = 2  # batches for each worker
_SPARE = 1.25  # workers, relative to what reads just fast enough
_SLOW_SHARE, _SLOW_FACTOR = 0.001, 30  # a clip in a thousand is 10 s of 1920 x 1080
_DAYS, _TRAININGS = 30, 20


def usual_clips(constants: Constants) -> Draw:
    """Seconds per clip, of clips of one kind."""
    return lognormal(constants.read_seconds, 0.3 * constants.read_seconds)


def with_slow_clips(constants: Constants) -> Draw:
    """The same, with a few that take much longer."""
    usual = usual_clips(constants)

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        slow = rng.random(shape) < _SLOW_SHARE
        return usual(rng, shape) * np.where(slow, _SLOW_FACTOR, 1)

    return draw


def readers_table(constants: Constants, gpus: Sequence[int]) -> str:
    """Seconds per step of usual clips and with slow ones among them, as Markdown: ``workers`` of
    each GPU read just fast enough, or a quarter more."""
    header = ["GPUs", "workers per GPU", "step s without reading", "usual clips", "some slow clips"]
    compute = CLIPS / constants.gpu_clips_per_second
    least = constants.gpu_clips_per_second * constants.read_seconds
    lines = []
    for number in gpus:
        for workers in (math.ceil(least), math.ceil(_SPARE * least)):
            row = [f"{number}", f"{workers}", f"{compute:.3f}"]
            for draw in (usual_clips(constants), with_slow_clips(constants)):
                reading = Reading(draw, CLIPS, workers, _AHEAD * workers)
                ends = step_times(number, _STEPS, reading, compute, np.random.default_rng(0))
                seconds = (ends[-1] - ends[_FIRST]) / (_STEPS - 1 - _FIRST)
                row.append(f"{seconds:.3f} ({seconds / compute:.2f}×)")
            lines.append(row)
    return table(header, lines)


def failures_table(constants: Constants, gpus: Sequence[int]) -> str:
    """Lost time of a month of training by the formula and simulated, as Markdown."""
    header = ["GPUs", "checkpoint", "every, minutes", "failures", "lost, %, formula"]
    header += ["lost, %, simulated"]
    lines = []
    for number in gpus:
        needs = Needs(constants, number)
        for kind in ("file", "asynchronous"):
            interval, stall = needs.checkpoint_seconds(kind), needs.stall_seconds(kind)
            runs = [
                run_with_failures(
                    86400 * _DAYS,
                    interval,
                    stall,
                    constants.restart_seconds,
                    random_failures(needs.hours_between_failures, np.random.default_rng(seed)),
                )
                for seed in range(_TRAININGS)
            ]
            lines.append(
                [
                    f"{number}",
                    kind,
                    f"{interval / 60:.1f}",
                    f"{np.mean([run.failures for run in runs]):.1f}",
                    f"{100 * needs.lost_share(kind):.3f}",
                    f"{100 * np.mean([run.lost_share for run in runs]):.3f}",
                ]
            )
    return table(header, lines)
