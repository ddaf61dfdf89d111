"""One pass of an evaluator over a loader: validation and test are this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from slowfast.engine.bad_items import BadItems
from slowfast.engine.tasks.base import Evaluator
from slowfast.utils.progress import Progress, StepTimer
from slowfast.utils.runtime import Runtime

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
) -> dict[str, Any]:
    """Run ``model`` in evaluation mode over all batches; the figures over all ranks.

    ``on_step(step, figures, videos, timer)`` is called after each batch with its figures.
    """
    model.eval()
    bad.start_pass()
    bar = Progress(title, len(loader), period)
    timer = StepTimer()
    with torch.inference_mode():
        for step, batch in enumerate(loader):
            timer.data_ready()
            bad.add(batch["bad"])
            videos = len(batch.get("label", ()))
            figures = evaluator.add(model, batch) if videos else {}
            timer.step_done(videos)
            on_step(step, figures, videos, timer)
            left = len(loader) - step - 1
            bar.update(step + 1, timer.describe(runtime.peak_memory_gb(), left))
    bar.close()
    evaluator.merge_ranks()
    return evaluator.stats()
