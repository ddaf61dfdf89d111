"""The learning rate as a function of the fractional epoch, by name (``SOLVER.LR_POLICY``).

A policy is a function ``(solver, epoch) -> learning rate``, where ``solver`` is the section SOLVER
and ``epoch`` counts finished epochs with their fraction. The warm-up is added to every policy. A
policy of another project is registered in a module that IMPORTS names::

    @LR_POLICY_REGISTRY.register("linear")
    def linear(solver, epoch):
        return solver.BASE_LR * (1 - epoch / solver.MAX_EPOCH)
"""

from __future__ import annotations

import math
from collections.abc import Callable

from slowfast.config.node import CfgNode
from slowfast.utils.registry import Registry

Policy = Callable[[CfgNode, float], float]
LR_POLICY_REGISTRY: Registry[Policy] = Registry("learning-rate policy", "SOLVER.LR_POLICY")


@LR_POLICY_REGISTRY.register("cosine")
def cosine(solver: CfgNode, epoch: float) -> float:
    """Half a cosine from BASE_LR to COSINE_END_LR (PySlowFast), with restarts every
    COSINE_RESTART_EPOCH epochs if that is set (STDD)."""
    offset = solver.WARMUP_EPOCHS if solver.COSINE_AFTER_WARMUP else 0.0
    # A trial of few epochs may end within the warm-up: the cosine then stays at its start.
    span = solver.MAX_EPOCH - offset
    progress = (epoch - offset) / span if span > 0 else 0.0
    if solver.COSINE_RESTART_EPOCH > 0:
        restart = solver.COSINE_RESTART_EPOCH
        progress = ((epoch - offset) % restart) / restart
    half = 0.5 * (1.0 + math.cos(math.pi * progress))
    return solver.COSINE_END_LR + (solver.BASE_LR - solver.COSINE_END_LR) * half


@LR_POLICY_REGISTRY.register("steps_with_relative_lrs")
def steps_with_relative_lrs(solver: CfgNode, epoch: float) -> float:
    """BASE_LR times the factor of LRS whose entry of STEPS was passed last (PySlowFast)."""
    steps = [*solver.STEPS, solver.MAX_EPOCH]
    index = max(i for i, step in enumerate(steps) if step <= epoch) if epoch >= steps[0] else 0
    return solver.LRS[min(index, len(solver.LRS) - 1)] * solver.BASE_LR


def learning_rate(solver: CfgNode, epoch: float) -> float:
    """Learning rate at a fractional ``epoch``; warm-up ends at the policy's own value."""
    policy = LR_POLICY_REGISTRY.get(solver.LR_POLICY)
    if epoch < solver.WARMUP_EPOCHS:
        end = policy(solver, solver.WARMUP_EPOCHS)
        share = epoch / solver.WARMUP_EPOCHS
        return solver.WARMUP_START_LR + (end - solver.WARMUP_START_LR) * share
    return policy(solver, epoch)


def is_due(epoch: int, period: int, max_epoch: int) -> bool:
    """Whether something happens after 0-based ``epoch``: every ``period``, and at the end."""
    return (epoch + 1) % period == 0 or epoch + 1 == max_epoch


def batch_factor(solver: CfgNode, videos: int) -> float:
    """Linear-scaling factor of the learning rate (arXiv 1706.02677) for a step of ``videos``; 1
    without SOLVER.LR_BATCH_SIZE."""
    return videos / solver.LR_BATCH_SIZE if solver.LR_BATCH_SIZE else 1.0


def describe_batch(cfg: CfgNode, videos: int, accumulated: int) -> str:
    """How large a step of ``accumulated`` batches is, and what that means for the learning rate."""
    solver, copies = cfg.SOLVER, cfg.AUG.NUM_SAMPLE
    clips = f" ({videos * copies} clips)" if copies > 1 else ""
    text = f"a step sees {videos} videos{clips} in {accumulated} batches; "
    factor = batch_factor(solver, videos)
    if solver.LR_BATCH_SIZE:
        peak = factor * solver.BASE_LR
        return text + f"SOLVER.LR_BATCH_SIZE makes BASE_LR {solver.BASE_LR:g} to {peak:g}"
    return text + (
        f"BASE_LR is {solver.BASE_LR:g} (the linear rule: as much larger or smaller as the step "
        "is than the recipe's; SOLVER.LR_BATCH_SIZE applies it)"
    )
