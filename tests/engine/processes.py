"""Runs of the main command in processes of their own, which tests stop, kill and starve."""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from slowfast.analysis.results import read_stats as stats
from slowfast.analysis.stress.resume import state_differences
from tests.conftest import words
from tests.scripts import CONTEXT, enter_process, spoil_output


def _enter(
    argv: Sequence[str], log: str, env: dict[str, str], limits: dict[int, int], output: str
) -> None:
    from slowfast.engine.run import main
    from slowfast.utils.cli import run_command

    enter_process(os.environ | env, log, log)
    spoil_output(output)
    for what, value in limits.items():
        resource.setrlimit(what, (value, value))
    run_command(lambda: main(argv))


class Run:
    """One process that runs the command with KEY VALUE ``values``.

    ``largest_file`` in bytes, the number of ``descriptors``, and what is wrong with its ``output``
    (see :func:`tests.scripts.spoil_output`).
    """

    def __init__(
        self,
        config: Path,
        values: dict,
        options: Sequence[str] = (),
        env: dict[str, str] | None = None,
        largest_file: int = 0,
        descriptors: int = 0,
        output: str = "",
        tag: str = "",
    ):
        self.out = Path(values["OUTPUT_DIR"])
        self.out.mkdir(parents=True, exist_ok=True)
        self.log = self.out / f"console{tag or (env or {}).get('RANK', '')}.txt"
        argv = ["--cfg", str(config), *options, *words(values)]
        limits = {resource.RLIMIT_FSIZE: largest_file, resource.RLIMIT_NOFILE: descriptors}
        limits = {what: value for what, value in limits.items() if value}
        self.process = CONTEXT.Process(
            target=_enter, args=(argv, str(self.log), env or {}, limits, output)
        )
        self.process.start()

    @property
    def console(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def wait(self, seconds: float = 60) -> int:
        """The exit code (negative: killed by that signal)."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            raise AssertionError(f"still running after {seconds} s:\n{self.console[-3000:]}")
        return self.process.exitcode

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60) -> bool:
        """Wait until ``condition`` holds (True) or the process has ended (False)."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            if not self.process.is_alive():
                return False
            time.sleep(0.002)
        raise AssertionError(f"nothing happened in {seconds} s:\n{self.console[-3000:]}")

    def children(self) -> list[int]:
        """Its loader workers."""
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


def kill_often(start: Callable[[], Run], kills: int, seed: int) -> int:
    """Kill the run some iterations after each start, then let it end; kills that hit it."""
    draw, hits = random.Random(seed), 0
    for _ in range(kills):
        run = start()
        before = len(stats(run.out, "train_iter"))
        wanted = before + draw.randint(1, 3)
        if run.wait_for(lambda: len(stats(run.out, "train_iter")) >= wanted):
            time.sleep(draw.uniform(0, 0.05))  # inside a step, or while a checkpoint is written
            run.signal(9)
        hits += run.wait() == -9
    run = start()
    assert run.wait() == 0, run.console[-3000:]
    return hits


def assert_same_state(a: dict, b: dict) -> None:
    """Two checkpoints of equal weights, averages, moments, generators and positions."""
    found = state_differences(a, b)
    assert found == [], found[:10]
