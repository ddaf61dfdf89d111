"""What a campaign counts: tried, handled, lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from slowfast.analysis.markdown import table
from slowfast.analysis.stress.runs import Run, lives
from slowfast.engine.checkpoint import run_checkpoints
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

END_S = 15.0  # what goes wrong ends a run within this time
ORPHANS_S = 5.0  # and leaves no process behind for longer than this


@dataclass
class Tally:
    """Tries of one kind of harm; ``lost`` says of each that was not handled what was wrong."""

    kind: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    @property
    def handled(self) -> int:
        """Tries that ended as they should."""
        return self.tried - len(self.lost)

    def record(self, problems: Sequence[str], seconds: float = 0.0) -> None:
        """One more try; no problems: handled. ``seconds`` from the harm to the end."""
        self.tried += 1
        self.slowest_s = max(self.slowest_s, seconds)
        if problems:
            self.lost.append("; ".join(problems))
            logger.warning("%s, try %d: %s", self.kind, self.tried, self.lost[-1])


def as_markdown(tallies: Sequence[Tally]) -> str:
    """One row per kind."""
    rows = [
        (t.kind, t.tried, t.handled, len(t.lost), f"{t.slowest_s:.1f} s" if t.slowest_s else "")
        for t in tallies
    ]
    return table(("kind", "tried", "handled", "lost", "slowest end"), rows)


def watch_end(
    run: Run, codes: set[int], texts: Sequence[str] = (), workers: Sequence[int] = ()
) -> tuple[list[str], float]:
    """(what is wrong with the end of a run to which harm was done just now, seconds it took).

    It has to end in time with one of ``codes`` on each rank, say all ``texts``, show no traceback,
    leave none of the processes ``workers`` behind, and keep a checkpoint that can be read.
    """
    start = time.monotonic()
    ended = run.wait(END_S)
    seconds = time.monotonic() - start
    problems = []
    if ended is None:
        problems.append(f"still running after {END_S:g} s")
    elif set(ended) - codes:
        problems.append(f"exit codes {ended}")
    console = run.console
    if "Traceback" in console:
        problems.append("a traceback")
    problems += [f"does not say {text!r}" for text in texts if text not in console]
    problems += left_behind(workers) + damaged(run)
    if problems:
        problems.append(f"console: {console[-1500:]}")
    return problems, seconds


def left_behind(workers: Sequence[int]) -> list[str]:
    """A problem for the processes that still run some seconds later; they are killed."""
    end = time.monotonic() + ORPHANS_S
    while any(map(lives, workers)) and time.monotonic() < end:
        time.sleep(0.02)
    left = [pid for pid in workers if lives(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return [f"left {len(left)} processes behind"] if left else []


def damaged(run: Run) -> list[str]:
    """A problem for each checkpoint of the run that cannot be read."""
    problems = []
    for path in run_checkpoints(run.out):
        try:
            read_checkpoint(path)
        except UserError as error:
            problems.append(str(error.problems[0]))
    return problems
