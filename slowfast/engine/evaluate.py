"""Evaluation loop shared by validation and test."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from torch import nn

from slowfast.datasets.batch import Batch
from slowfast.datasets.loader import Loader
from slowfast.engine.prefetch import on_device
from slowfast.engine.sharding import gathered, unwrap
from slowfast.engine.step_sync import sync_step
from slowfast.engine.tasks.base import TaskModule
from slowfast.engine.unreadable import UnreadableVideos
from slowfast.metrics.evaluators import EvalResult, Evaluator
from slowfast.utils.distributed import gather_numbers, gather_objects
from slowfast.utils.errors import Interrupted
from slowfast.utils.progress import ProgressBar, StepTimer
from slowfast.utils.runtime import Runtime
from slowfast.utils.signals import StopRequest
from slowfast.utils.transfer import HostCopy


class Observer(Protocol):
    """Sees each batch of an evaluation; ``title`` and ``log_every`` are those of its lines."""

    title: str
    log_every: int

    def on_batch(self, step: int, figures: dict[str, float], size: int, timer: StepTimer) -> None:
        """After batch ``step`` of ``size`` labels, with its figures (empty if it was empty)."""
        ...


def evaluate(
    model: nn.Module,
    module: TaskModule,
    loader: Loader,
    evaluator: Evaluator,
    *,
    split: str,
    autocast: Callable[[], torch.autocast],
    unreadable: UnreadableVideos,
    observer: Observer,
    runtime: Runtime,
    stop: StopRequest | None = None,
) -> EvalResult:
    """Run ``model`` in evaluation mode over all batches; the result over all ranks.

    ``evaluator`` holds the results of all ranks afterwards. Interrupted, on all ranks alike, when
    a signal has come.
    """
    model = unwrap(model)  # DDP would exchange buffers, in batches that not all ranks have
    model.eval()
    unreadable.start_pass()
    # A rank may have a batch less than another; all take part in all rounds.
    rounds = int(max(row[0] for row in gather_numbers([len(loader)])))
    bar = ProgressBar(observer.title, rounds, observer.log_every)
    timer = StepTimer()
    batches = on_device(loader, runtime.device)
    late = _LateScores(evaluator, observer, timer, runtime.steps_ahead)
    with contextlib.closing(bar), gathered(model), torch.inference_mode():
        module.begin(model, split)
        for step in range(rounds):
            batch = next(batches, Batch())
            timer.data_ready()
            scores = None
            if batch.size:
                inputs = module.prepare(batch, split)
                with autocast():
                    scores = module.predict(model, inputs)
            late.add(step, batch, scores)
            timer.step_done(batch.size)
            # Without clips: an evaluation needs no dummy batches.
            sync, _ = sync_step([Batch(bad=batch.bad)], stop.number if stop else 0)
            unreadable.record(sync.bad)
            bar.update(step + 1, timer.describe(runtime.peak_memory_gb(), rounds - step - 1))
            if sync.signal:
                raise Interrupted(sync.signal)
        late.finish()
    for rank, other in enumerate(gather_objects(evaluator)):
        if rank != runtime.rank:
            evaluator.merge(other)
    return evaluator.compute()


class _LateScores:
    """Scores on their way to the host: they are evaluated while the device computes the next."""

    def __init__(self, evaluator: Evaluator, observer: Observer, timer: StepTimer, ahead: int):
        self.evaluator, self.observer, self.timer = evaluator, observer, timer
        self._ahead = ahead
        self._waiting: deque[tuple[int, Batch, HostCopy | None]] = deque()

    def add(self, step: int, batch: Batch, scores: torch.Tensor | None) -> None:
        """The ``scores`` of a batch (None if it is empty), of which the last few may wait."""
        copy = None if scores is None else HostCopy(scores)
        self._waiting.append((step, replace(batch, video=None), copy))
        self._evaluate(self._ahead)

    def finish(self) -> None:
        """Evaluate what still waits."""
        self._evaluate(0)

    def _evaluate(self, kept: int) -> None:
        while len(self._waiting) > kept:
            step, batch, copy = self._waiting.popleft()
            figures = {} if copy is None else self.evaluator.update(copy.read(), batch)
            self.observer.on_batch(step, figures, batch.size, self.timer)
