"""Callbacks: code that runs at a few moments of a training, by CALLBACKS.

A callback cannot break exact resume: the trainer puts all random generators back after each
call, and what a callback keeps in ``state_dict`` travels in the checkpoint.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slowfast.config.node import CfgNode
from slowfast.metrics.evaluators import EvalResult
from slowfast.utils.logging import get_logger
from slowfast.utils.registry import Registry
from slowfast.utils.runtime import Runtime

if TYPE_CHECKING:
    from slowfast.engine.step import StepOutput
    from slowfast.engine.train import Trainer

logger = get_logger(__name__)

CALLBACK_REGISTRY: Registry[type[Callback]] = Registry("callback", "CALLBACKS")


class Callback:
    """Does nothing at every moment; a subclass overrides the ones it needs.

    All processes call it. It is built from the configuration. ``trainer`` offers ``model``,
    ``optimizer``, ``progress``, ``cfg``, ``runtime`` and ``request_stop(reason)``, which ends the
    training after the present epoch; all processes must request it alike.
    """

    def __init__(self, cfg: CfgNode):
        self.cfg = cfg

    def on_run_start(self, trainer: Trainer) -> None:
        """Before the first step, after a checkpoint was restored."""

    def on_epoch_start(self, trainer: Trainer, epoch: int) -> None:
        """Before the steps of 0-based ``epoch``; again if the epoch was interrupted."""

    def on_step_end(self, trainer: Trainer, output: StepOutput) -> None:
        """When the figures of an optimizer step are known: on the CPU before the next step, on a
        GPU while it computes the next one. ``output.step`` is its number."""

    def on_evaluation_end(self, trainer: Trainer, result: EvalResult) -> None:
        """After a validation."""

    def on_epoch_end(self, trainer: Trainer, epoch: int) -> None:
        """After steps and validation of ``epoch``, before its checkpoint."""

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        """After a checkpoint was written to ``path``; if it was written while the training went on,
        before the next one begins, or at the end."""

    def on_run_end(self, trainer: Trainer) -> None:
        """After the last epoch; not after an interruption."""

    def state_dict(self) -> dict[str, Any]:
        """What has to survive an interruption: numbers, texts, lists, dicts and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put a :meth:`state_dict` back."""


class Callbacks:
    """The callbacks of a run, called in the order of CALLBACKS."""

    def __init__(self, cfg: CfgNode, runtime: Runtime):
        self._runtime = runtime
        self._callbacks: dict[str, Callback] = {
            name: CALLBACK_REGISTRY.get(name)(cfg) for name in cfg.CALLBACKS
        }

    def call(self, moment: str, *arguments: Any) -> None:
        """Call the method ``moment`` of every callback; random generators stay as they were."""
        if not self._callbacks:
            return
        with preserved_rng(self._runtime):
            for callback in self._callbacks.values():
                getattr(callback, moment)(*arguments)

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """States by name, those that are empty left out."""
        states = {name: callback.state_dict() for name, callback in self._callbacks.items()}
        return {name: state for name, state in states.items() if state}

    def load_state_dict(self, states: dict[str, dict[str, Any]]) -> None:
        """Put states back; a callback that is new in the run starts without a state."""
        for name, state in states.items():
            if name in self._callbacks:
                self._callbacks[name].load_state_dict(state)


@contextlib.contextmanager
def preserved_rng(runtime: Runtime) -> Iterator[None]:
    """A context after which the generators of torch, NumPy and Python are as before."""
    before = runtime.rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        runtime.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


@CALLBACK_REGISTRY.register("early_stopping")
class EarlyStopping(Callback):
    """Ends the training after TRAIN.EARLY_STOPPING_PATIENCE validations without a better score."""

    def __init__(self, cfg: CfgNode):
        super().__init__(cfg)
        self.best, self.without_gain = float("-inf"), 0

    def on_run_start(self, trainer: Trainer) -> None:
        self._check(trainer)  # a run that had stopped is not continued

    def on_evaluation_end(self, trainer: Trainer, result: EvalResult) -> None:
        if result.score > self.best:
            self.best, self.without_gain = result.score, 0
        else:
            self.without_gain += 1
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        if self.without_gain >= self.cfg.TRAIN.EARLY_STOPPING_PATIENCE:
            trainer.request_stop(f"{self.without_gain} validations without a better score")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "without_gain": self.without_gain}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.without_gain = state["best"], state["without_gain"]
