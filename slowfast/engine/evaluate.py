"""Evaluation loop shared by validation and test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

import torch
from torch import nn
from torch.utils.data import DataLoader

from slowfast.datasets.batch import Batch
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
    loader: DataLoader,
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
    batches = iter(loader)
    with contextlib.closing(bar), gathered(model), torch.inference_mode():
        module.begin(model, split)
        for step in range(rounds):
            batch = next(batches, Batch())
            timer.data_ready()
            figures = {}
            if batch.size:
                inputs = module.prepare(batch, split)
                with autocast():
                    scores = module.predict(model, inputs)
                figures = evaluator.update(scores, batch)
            timer.step_done(batch.size)
            # Without clips: an evaluation needs no dummy batches.
            sync, _ = sync_step([Batch(bad=batch.bad)], stop.number if stop else 0)
            unreadable.record(sync.bad)
            observer.on_batch(step, figures, batch.size, timer)
            bar.update(step + 1, timer.describe(runtime.peak_memory_gb(), rounds - step - 1))
            if sync.signal:
                raise Interrupted(sync.signal)
    for rank, other in enumerate(gather_objects(evaluator)):
        if rank != runtime.rank:
            evaluator.merge(other)
    return evaluator.compute()
