"""Reports on a step whose loss or gradient is not finite: layers and videos."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from slowfast.datasets.batch import Batch
from slowfast.engine.tasks.base import LossOutput
from slowfast.utils.distributed import gather_objects, whole


def describe_gradients(model: nn.Module, shown: int = 8) -> str:
    """Gradient norm per layer: those that are not finite, else the largest."""
    norms = {
        name: float(whole(parameter.grad.float().norm()))
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    bad = [name for name, norm in norms.items() if not math.isfinite(norm)]
    good = sorted((n for n in norms if n not in bad), key=norms.get, reverse=True)
    lines = [f"    gradient norm by layer: {len(bad)} of {len(norms)} are not finite\n"]
    for name in [*bad[:shown], *good[: max(shown - len(bad), 3)]]:
        lines.append(f"        {norms[name]:10.4g}  {name}\n")
    return "".join(lines)


def describe_videos(
    outputs: Sequence[LossOutput], batches: Sequence[Batch], shown: int = 16
) -> str:
    """The videos of the step, per rank; those of batches with a non-finite loss first."""
    rows = [
        (not math.isfinite(output.loss.item()), list(dict.fromkeys(batch.path)))
        for output, batch in zip(outputs, batches)
    ]
    ranks = gather_objects(rows)
    lines = []
    for rank, rank_rows in enumerate(ranks):
        owner = f" of rank {rank}" if len(ranks) > 1 else ""
        for bad, paths in sorted(rank_rows, key=lambda row: not row[0]):
            loss = "not finite" if bad else "finite"
            more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
            lines.append(f"    videos{owner}, loss {loss}: {', '.join(paths[:shown])}{more}")
    return "\n".join(lines)
