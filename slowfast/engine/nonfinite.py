"""Reports on a step whose loss or gradient is not finite: layers and videos."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import nn

from slowfast.utils.distributed import gather_objects, whole


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """Norm of the gradient of every parameter that has one."""
    return {
        name: float(whole(parameter.grad.float().norm()))
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def describe_norms(norms: Mapping[str, float], shown: int = 8) -> str:
    """Gradient norm per layer: those that are not finite, else the largest."""
    bad = [name for name, norm in norms.items() if not math.isfinite(norm)]
    good = sorted((n for n in norms if n not in bad), key=norms.get, reverse=True)
    lines = [f"    gradient norm by layer: {len(bad)} of {len(norms)} are not finite\n"]
    for name in [*bad[:shown], *good[: max(shown - len(bad), 3)]]:
        lines.append(f"        {norms[name]:10.4g}  {name}\n")
    return "".join(lines)


def describe_videos(
    nonfinite: Sequence[bool], paths: Sequence[Sequence[str]], shown: int = 16
) -> str:
    """The videos of the step, per rank; those of batches with a ``nonfinite`` loss first.

    ``paths``: the videos of each batch of this rank. All ranks must call it.
    """
    ranks = gather_objects([(bad, list(dict.fromkeys(p))) for bad, p in zip(nonfinite, paths)])
    lines = []
    for rank, rank_rows in enumerate(ranks):
        owner = f" of rank {rank}" if len(ranks) > 1 else ""
        for bad, names in sorted(rank_rows, key=lambda row: not row[0]):
            loss = "not finite" if bad else "finite"
            more = f" and {len(names) - shown} more" if len(names) > shown else ""
            lines.append(f"    videos{owner}, loss {loss}: {', '.join(names[:shown])}{more}")
    return "\n".join(lines)
