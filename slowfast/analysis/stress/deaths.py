"""Kinds of harm: workers that are killed, and parents whose children have to end with them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence

from slowfast.analysis.stress.runs import Run, Scene, descendants, lives
from slowfast.analysis.stress.table import Tally, left_behind, watch_end

_LONG = ("SOLVER.MAX_EPOCH", "1000")


def workers(scene: Scene, tries: int) -> Tally:
    """A loader worker of a random rank is killed at a random moment: an error that names it."""
    tally = Tally(_name("workers", scene))
    while tally.tried < tries:
        run = scene.start("workers", _LONG)
        if not _reach_a_moment(scene, run):
            tally.record([f"the run did not go on: {run.console[-1500:]}"])
            run.kill()
            continue
        ranks = [run.workers(rank) for rank in range(scene.processes)]
        victim = scene.rng.choice(scene.rng.choice(ranks))
        _kill(victim)
        everyone = [pid for rank in ranks for pid in rank]
        tally.record(*watch_end(run, {1}, [f"loader worker {victim} died"], everyone))
    return tally


def parents(scene: Scene, tries: int) -> Tally:
    """A random rank is killed at a random moment: its workers end, and the other ranks, too."""
    tally = Tally(_name("parents", scene))
    for _ in range(tries):
        run = scene.start("parents", _LONG)
        if not _reach_a_moment(scene, run):
            tally.record([f"the run did not go on: {run.console[-1500:]}"])
            run.kill()
            continue
        everyone = [pid for rank in range(scene.processes) for pid in run.workers(rank)]
        _kill(scene.rng.choice(run.processes).pid)
        tally.record(*watch_end(run, {-signal.SIGKILL, 1}, (), everyone))
    return tally


def tools(scene: Scene, tries: int, commands: Sequence[Sequence[str]]) -> Tally:
    """Commands with a pool of processes are killed at a random moment: nothing stays."""
    tally = Tally("tools")
    for number in range(tries):
        command = commands[number % len(commands)]
        run = Scene(command, scene.folder, 1, scene.start_one).start(f"tool{number}")
        # Two: a library may run a program when it is imported.
        run.wait_for(lambda pid=run.processes[0].pid: len(descendants(pid)) >= 2, 60)
        time.sleep(scene.rng.uniform(0, 0.1))
        pool = run.workers()
        run.kill()
        start = time.monotonic()
        problems = left_behind(pool) if pool else [f"{command} had no pool: {run.console}"]
        tally.record(problems, time.monotonic() - start)
    return tally


def _name(kind: str, scene: Scene) -> str:
    return f"{kind}, {scene.processes} ranks" if scene.processes > 1 else kind


def _reach_a_moment(scene: Scene, run: Run) -> bool:
    """Wait for some iterations and a moment: inside a step, or while a checkpoint is written."""
    wanted = run.steps() + scene.rng.randint(2, 5)
    reached = run.wait_for(lambda: run.steps() >= wanted)
    time.sleep(scene.rng.uniform(0, 0.1))
    return reached and all(process.poll() is None for process in run.processes)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        if lives(pid):
            os.kill(pid, signal.SIGKILL)
