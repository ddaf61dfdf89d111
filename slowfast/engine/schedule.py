"""The learning rate as a function of the fractional epoch (PySlowFast's policies)."""

from __future__ import annotations

import math

from slowfast.config.node import CfgNode


def _cosine(solver: CfgNode, epoch: float) -> float:
    offset = solver.WARMUP_EPOCHS if solver.COSINE_AFTER_WARMUP else 0.0
    # A trial of few epochs may end within the warm-up: the cosine then stays at its start.
    span = solver.MAX_EPOCH - offset
    progress = (epoch - offset) / span if span > 0 else 0.0
    if solver.COSINE_RESTART_EPOCH > 0:
        period = solver.COSINE_RESTART_EPOCH
        progress = ((epoch - offset) % period) / period
    half = 0.5 * (1.0 + math.cos(math.pi * progress))
    return solver.COSINE_END_LR + (solver.BASE_LR - solver.COSINE_END_LR) * half


def _steps(solver: CfgNode, epoch: float) -> float:
    steps = [*solver.STEPS, solver.MAX_EPOCH]
    index = max(i for i, step in enumerate(steps) if step <= epoch) if epoch >= steps[0] else 0
    return solver.LRS[min(index, len(solver.LRS) - 1)] * solver.BASE_LR


def learning_rate(solver: CfgNode, epoch: float) -> float:
    """Learning rate at a fractional ``epoch``; warm-up ends at the policy's own value."""
    policy = _cosine if solver.LR_POLICY == "cosine" else _steps
    if epoch < solver.WARMUP_EPOCHS:
        end = policy(solver, solver.WARMUP_EPOCHS)
        share = epoch / solver.WARMUP_EPOCHS
        return solver.WARMUP_START_LR + (end - solver.WARMUP_START_LR) * share
    return policy(solver, epoch)


def is_due(epoch: int, period: int, max_epoch: int) -> bool:
    """Whether something happens after 0-based ``epoch``: every ``period``, and at the end."""
    return (epoch + 1) % period == 0 or epoch + 1 == max_epoch


def batch_factor(solver: CfgNode, videos: int) -> float:
    """What the linear rule makes of the learning rate at ``videos`` a step; 1 without the rule."""
    return videos / solver.LR_BATCH_SIZE if solver.LR_BATCH_SIZE else 1.0


def describe_batch(cfg: CfgNode, videos: int) -> str:
    """How large a step is, and what that means for the learning rate."""
    solver, copies = cfg.SOLVER, cfg.AUG.NUM_SAMPLE
    clips = f" ({videos * copies} clips)" if copies > 1 else ""
    text = f"a step sees {videos} videos{clips} in {solver.ACCUM_STEPS} batches; "
    factor = batch_factor(solver, videos)
    if solver.LR_BATCH_SIZE:
        peak = factor * solver.BASE_LR
        return text + f"SOLVER.LR_BATCH_SIZE makes BASE_LR {solver.BASE_LR:g} to {peak:g}"
    return text + (
        f"BASE_LR is {solver.BASE_LR:g} (the linear rule: as much larger or smaller as the step "
        "is than the recipe's; SOLVER.LR_BATCH_SIZE applies it)"
    )
