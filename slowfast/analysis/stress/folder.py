"""A kind of harm: several runs that want the same folder at once."""

from __future__ import annotations

import time

from slowfast.analysis.stress.runs import Run, Scene
from slowfast.analysis.stress.table import Tally, damaged

_LONG = ("SOLVER.MAX_EPOCH", "1000")
_STARTS = 3
_START_S = 120.0


def two_runs(scene: Scene, tries: int) -> Tally:
    """Three starts at once in one OUTPUT_DIR: one goes on, the others are refused and name it.

    The one is then killed, so that the next ones find a lock whose owner has gone.
    """
    tally = Tally("folder")
    for _ in range(tries):
        runs = [scene.start("folder", _LONG, tag=f"_{n}_") for n in range(_STARTS)]
        tally.record(_of_many_one(runs))
        for run in runs:
            run.kill()
    return tally


def _of_many_one(runs: list[Run]) -> list[str]:
    end = time.monotonic() + _START_S
    while sum(run.is_running() for run in runs) > 1 and time.monotonic() < end:
        time.sleep(0.01)
    left = [run for run in runs if run.is_running()]
    if len(left) != 1:
        consoles = "\n".join(run.console[-500:] for run in runs)
        return [f"{len(left)} runs go on:\n{consoles}"]
    (winner,) = left
    problems = []
    for run in runs:
        if run is not winner:
            codes, text = run.wait(1), f"is in use by process {winner.processes[0].pid} on "
            if codes != [2] or text not in run.console or "Traceback" in run.console:
                problems.append(f"exit codes {codes}, console: {run.console[-500:]}")
    wanted = winner.steps() + 1
    if not winner.wait_for(lambda: winner.steps() >= wanted):
        problems.append(f"the first does not go on: {winner.console[-500:]}")
    return problems + damaged(winner)
