"""Stress test of resuming: a run that is killed many times must end like an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slowfast.analysis.results import read_stats
from slowfast.engine.checkpoint import run_checkpoints
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import RunFailure
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

# Parts of two checkpoints that must be bit-identical.
COMPARED = (
    "model_state",
    "ema_state",
    "optimizer_state",
    "scaler_state",
    "rng_state",
    "sampler_state",
    "iteration",
    "progress",
    "recent_losses",
)


def differences(a: Any, b: Any, name: str = "") -> list[str]:
    """Names of the values that differ between two nested states."""
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) else [name]
    if isinstance(a, dict) and isinstance(b, dict):
        unmatched = [f"{name}.{key}" for key in a.keys() ^ b.keys()]
        return unmatched + [
            d for k in a.keys() & b.keys() for d in differences(a[k], b[k], f"{name}.{k}")
        ]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b)) for d in differences(x, y, f"{name}.{i}")]
    return [] if a == b else [name]


def state_differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Names of the values that differ between two checkpoints, among those in :data:`COMPARED`."""
    return [d for part in COMPARED for d in differences(a[part], b[part], part)]


@dataclass
class Campaign:
    """Interrupted runs of ``command``, in which ``{out}`` stands for OUTPUT_DIR.

    ``processes``: ranks on this machine; ``number``: the signal; ``seed``: of the random times.
    """

    command: Sequence[str]
    folder: Path
    processes: int = 1
    number: int = signal.SIGKILL
    seed: int = 0

    def run(self, kills: int) -> dict[str, Any]:
        """One uninterrupted run, and one that is stopped ``kills`` times; returns the figures,
        among them the ``differences`` of their last checkpoints."""
        start = time.monotonic()
        self._finish(self._start("whole"))
        uninterrupted_s = time.monotonic() - start
        rng = random.Random(self.seed)
        stops, codes, iterations = 0, [], []
        for _ in range(kills):
            stopped, code, iteration = self._interrupt(rng)
            stops += stopped
            codes.append(code)
            iterations.append(iteration)
        self._finish(self._start("stopped"))
        a, b = (self._last(name) for name in ("whole", "stopped"))
        return {
            "signal": signal.Signals(self.number).name,
            "processes": self.processes,
            "stops": stops,
            "at_iterations": iterations,
            "exit_codes": sorted(set(codes)),
            "damaged_checkpoints": self._log("stopped").count("skipping a damaged checkpoint"),
            "differences": state_differences(a, b),
            "seconds_alone": round(uninterrupted_s, 1),
        }

    def _start(self, name: str) -> list[subprocess.Popen]:
        out = self.folder / name
        out.mkdir(parents=True, exist_ok=True)
        command = [word.replace("{out}", str(out)) for word in self.command]
        with socket.socket() as listener:
            listener.bind(("localhost", 0))
            port = listener.getsockname()[1]
        runs = []
        for rank in range(self.processes):
            env = dict(os.environ)
            if self.processes > 1:
                env |= {
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "MASTER_ADDR": "localhost",
                    "WORLD_SIZE": str(self.processes),
                    "MASTER_PORT": str(port),
                    "LOCAL_WORLD_SIZE": str(self.processes),
                }
            with open(out / f"console{rank}.txt", "ab") as log:
                runs.append(
                    subprocess.Popen(
                        [sys.executable, *command], env=env, stdout=log, stderr=subprocess.STDOUT
                    )
                )
        return runs

    def _finish(self, runs: list[subprocess.Popen]) -> None:
        codes = [run.wait() for run in runs]
        if any(codes):
            raise RunFailure(f"a run ended with {codes}", f"see the consoles in {self.folder}")

    def _interrupt(self, rng: random.Random) -> tuple[bool, int, int]:
        """Start or resume the run and stop it a few iterations later.

        Returns (whether it was stopped before its end, exit code, iteration).
        """
        out = self.folder / "stopped"
        iteration = len(read_stats(out, "train_iter")) + rng.randint(1, 4)
        runs = self._start("stopped")
        while runs[0].poll() is None and len(read_stats(out, "train_iter")) < iteration:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1))  # inside a step, or while a checkpoint is written
        targets = runs if self.number != signal.SIGKILL else [rng.choice(runs)]
        for run in targets:
            if run.poll() is None:
                run.send_signal(self.number)
        codes = [run.wait() for run in runs]
        logger.info("stopped at iteration %d, exit codes %s", iteration, codes)
        return any(codes), next((code for code in codes if code), 0), iteration

    def _last(self, name: str) -> dict[str, Any]:
        return read_checkpoint(run_checkpoints(self.folder / name)[0])

    def _log(self, name: str) -> str:
        return (self.folder / name / "stdout.log").read_text(errors="replace")
