"""One pass of an evaluator over a loader: validation and test are this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from slowfast.engine.bad_items import BadItems
from slowfast.engine.exchange import agree
from slowfast.engine.sharding import gathered, unwrap
from slowfast.engine.tasks.base import Evaluator
from slowfast.utils.distributed import gather_numbers
from slowfast.utils.errors import Interrupted
from slowfast.utils.progress import Progress, StepTimer
from slowfast.utils.runtime import Runtime
from slowfast.utils.signals import StopRequest

OnStep = Callable[[int, dict[str, float], int, StepTimer], None]


def evaluate(
    model: nn.Module,
    loader: DataLoader,
    evaluator: Evaluator,
    bad: BadItems,
    runtime: Runtime,
    title: str,
    period: int,
    on_step: OnStep,
    stop: StopRequest | None = None,
    *,
    split: str,
) -> dict[str, Any]:
    """Run ``model`` in evaluation mode over all batches; the figures over all ranks.

    ``on_step(step, figures, videos, timer)`` is called after each batch with its figures.
    Interrupted, on all ranks alike, when a signal has come.
    """
    model.eval()
    bad.start_pass()
    # A rank may have a batch less than another; all take part in all rounds.
    rounds = int(max(row[0] for row in gather_numbers([len(loader)])))
    bar = Progress(title, rounds, period)
    timer = StepTimer()
    batches = iter(loader)
    with gathered(model), torch.inference_mode():
        unwrap(model).begin(split)
        for step in range(rounds):
            batch = next(batches, {"bad": []})
            timer.data_ready()
            videos = len(batch.get("label", ()))
            figures = evaluator.add(model, batch) if videos else {}
            timer.step_done(videos)
            agreement, _ = agree([{"bad": batch["bad"]}], stop.number if stop else 0)
            bad.add(agreement.bad)
            on_step(step, figures, videos, timer)
            bar.update(step + 1, timer.describe(runtime.peak_memory_gb(), rounds - step - 1))
            if agreement.signal:
                raise Interrupted(agreement.signal)
    bar.close()
    evaluator.merge_ranks()
    return evaluator.stats()
