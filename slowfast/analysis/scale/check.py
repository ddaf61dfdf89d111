"""The simulation beside real trainings on this machine: late clips, and killed processes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slowfast.analysis.scale.simulate import Reading, Run, lognormal, run_with_failures, step_times
from slowfast.analysis.stress.runs import Scene
from slowfast.utils.errors import RunFailure

_SKIPPED = 8  # first steps, in which the network is set up and batches are there already
_REPEATS = 20  # simulations whose mean is taken
_FILE = "stats.jsonl"


def check_late_readers(
    scene: Scene, workers: int, clips: int, mean: float, deviation: float
) -> dict[str, Any]:
    """Seconds per step of a training whose clips take a random time to read, lognormal with
    ``mean`` and ``deviation`` seconds, beside those of the simulation; ``workers`` and ``clips`` of
    each process."""
    words = ["DATA_LOADER.NUM_WORKERS", str(workers)]
    words += ["TRAIN.BATCH_SIZE", str(clips * scene.processes)]
    plain = _steps(_finished(scene, "plain", words))
    measured = _steps(_finished(scene, "late", [*words, *_late(mean, deviation)]))
    compute = float(np.median(plain[_SKIPPED:]))
    reading = Reading(lognormal(mean, deviation), clips, workers, 2 * workers)
    rng = np.random.default_rng(scene.seed)

    def simulated(processes: int) -> float:
        """Mean seconds per step."""
        runs = [
            step_times(processes, len(measured), reading, compute, rng) for _ in range(_REPEATS)
        ]
        return float(np.diff(runs)[:, _SKIPPED - 1 :].mean())

    real, model = float(np.mean(measured[_SKIPPED:])), simulated(scene.processes)
    return {
        "processes": scene.processes,
        "steps": len(measured) - _SKIPPED,
        "seconds_without_late_clips": round(compute, 4),
        "seconds_measured": round(real, 4),
        "seconds_simulated": round(model, 4),
        "simulated_to_measured": round(model / real, 3),
        "simulated_for_one_process": round(simulated(1), 4),
    }


def check_failures(scene: Scene, kills: Sequence[float], every: int, mean: float) -> dict[str, Any]:
    """Seconds of a training whose clips take ``mean`` seconds to read and which is killed so many
    seconds after the first step of each of its starts, and started again, with a checkpoint after
    ``every`` steps, beside those of the simulation, whose restarts take the mean of those that were
    measured."""
    words = [*_late(mean, mean / 10), "TRAIN.CHECKPOINT_STEPS", str(every)]
    first, last, end = _watched(scene, "whole", words)
    steps = len(_steps(scene.folder / "whole"))
    per_step = (last - first) / max(steps - 1, 1)
    begin = time.monotonic()
    starts = [_watched(scene, "killed", words, seconds)[0] for seconds in kills]
    starts.append(_watched(scene, "killed", words)[0])
    measured = time.monotonic() - begin
    restart = float(np.mean(starts))
    run = _simulate(steps * per_step, every * per_step, restart, kills)
    simulated = restart + run.total + (end - last)
    return {
        "processes": scene.processes,
        "kills": run.failures,
        "seconds_undisturbed": round(end, 1),
        "seconds_measured": round(measured, 1),
        "seconds_simulated": round(simulated, 1),
        "simulated_to_measured": round(simulated / measured, 3),
        "seconds_of_steps": round(steps * per_step, 1),
        "seconds_repeated_simulated": round(run.repeated, 1),
        "seconds_to_first_step": round(restart, 1),
    }


def _late(mean: float, deviation: float) -> list[str]:
    """Words that make clips late."""
    text = f"late:mean={mean},deviation={deviation}"
    return ["IMPORTS", "['slowfast.analysis.scale.late']", "DATA.TRANSFORMS_BEFORE", f"['{text}']"]


def _simulate(useful: float, interval: float, restart: float, after: Sequence[float]) -> Run:
    """With a failure so many seconds ``after`` the first step of each start."""
    remaining = list(after)

    def next_failure(now: float) -> float:
        return now + remaining.pop(0) if remaining else float("inf")

    return run_with_failures(useful, interval, 0.0, restart, next_failure)


def _finished(scene: Scene, name: str, words: Sequence[str]) -> Path:
    """The folder of a run that has come to its end."""
    run = scene.start(name, words)
    codes = run.wait()
    if codes is None or any(codes):
        raise RunFailure(f"the run {name} failed: {run.console[-2000:]}", "see the text above")
    return run.out


def _watched(
    scene: Scene, name: str, words: Sequence[str], kill_after: float | None = None
) -> tuple[float, float, float]:
    """Seconds from the start of a run to its first new step, to its last, and to its end; it is
    killed ``kill_after`` seconds after the first step, or comes to its end."""
    begin = time.monotonic()
    run = scene.start(name, words)
    count = run.steps()
    first = last = 0.0
    while run.is_running():
        now = time.monotonic() - begin
        if run.steps() > count:
            count, first, last = run.steps(), first or now, now
        if kill_after is not None and first and now > first + kill_after:
            run.kill()
            return first, last, now
        time.sleep(0.01)
    codes = run.wait()
    if codes is None or any(codes):
        raise RunFailure(f"the run {name} failed: {run.console[-2000:]}", "see the text above")
    return first, last, time.monotonic() - begin


def _steps(out: Path) -> list[float]:
    """Seconds of every training step in a folder of results."""
    lines = [json.loads(line) for line in (out / _FILE).read_text(encoding="utf-8").splitlines()]
    return [float(line["dt"]) for line in lines if line["_type"] == "train_iter"]
