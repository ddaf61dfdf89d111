"""Stress test of resuming: a run that is killed many times must end like an undisturbed one."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import Any

import torch

from slowfast.analysis.stress.runs import Scene
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
    """Interrupted runs of ``scene``; ``number`` is the signal."""

    scene: Scene
    number: int = signal.SIGKILL

    def run(self, kills: int) -> dict[str, Any]:
        """One uninterrupted run, and one that is stopped ``kills`` times; returns the figures,
        among them the ``differences`` of their last checkpoints."""
        start = time.monotonic()
        self._finish("whole")
        uninterrupted_s = time.monotonic() - start
        stops, codes, iterations = 0, [], []
        for _ in range(kills):
            stopped, code, iteration = self._interrupt()
            stops += stopped
            codes.append(code)
            iterations.append(iteration)
        self._finish("stopped")
        a, b = (self._last(name) for name in ("whole", "stopped"))
        return {
            "signal": signal.Signals(self.number).name,
            "processes": self.scene.processes,
            "stops": stops,
            "at_iterations": iterations,
            "exit_codes": sorted(set(codes)),
            "damaged_checkpoints": self._log("stopped").count("skipping a damaged checkpoint"),
            "differences": state_differences(a, b),
            "seconds_alone": round(uninterrupted_s, 1),
        }

    def _finish(self, name: str) -> None:
        codes = self.scene.start(name).wait()
        if codes is None or any(codes):
            raise RunFailure(f"a run ended with {codes}", f"see {self.scene.folder}")

    def _interrupt(self) -> tuple[bool, int, int]:
        """Start or resume the run and stop it a few iterations later.

        Returns (whether it was stopped before its end, exit code, iteration).
        """
        rng = self.scene.rng
        run = self.scene.start("stopped")
        iteration = run.steps() + rng.randint(1, 4)
        run.wait_for(lambda: run.steps() >= iteration)
        time.sleep(rng.uniform(0, 0.1))  # inside a step, or while a checkpoint is written
        targets = run.processes if self.number != signal.SIGKILL else [rng.choice(run.processes)]
        for process in targets:
            if process.poll() is None:
                os.kill(process.pid, self.number)
        codes = run.wait() or []
        logger.info("stopped at iteration %d, exit codes %s", iteration, codes)
        return any(codes), next((code for code in codes if code), 0), iteration

    def _last(self, name: str) -> dict[str, Any]:
        return read_checkpoint(run_checkpoints(self.scene.folder / name)[0])

    def _log(self, name: str) -> str:
        return (self.scene.folder / name / "stdout.log").read_text("utf-8", errors="replace")
