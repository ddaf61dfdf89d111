"""What a configuration of multigrid training must fulfil."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from slowfast.config.node import CfgNode
from slowfast.config.validate import register_rule
from slowfast.datasets.multigrid import active_switch, batch_shapes, long_cycle_sizes, plan_phases
from slowfast.engine.tasks import task_class
from slowfast.models.base import MODEL_REGISTRY
from slowfast.utils.errors import Problem

_SIZES, _CROPS = "MULTIGRID.LONG_CYCLE_FACTORS", "MULTIGRID.SHORT_CYCLE_FACTORS"


@register_rule
def _multigrid(cfg: CfgNode) -> Iterable[Problem]:
    if not active_switch(cfg):
        return
    problems = [*_whole_run(cfg), *(_long_cycle(cfg) if cfg.MULTIGRID.LONG_CYCLE else ())]
    yield from problems
    if problems:
        return
    problems = list(_batches(cfg))
    yield from problems or [*_length(cfg), *_network(cfg)]


def _whole_run(cfg: CfgNode) -> Iterable[Problem]:
    """Parts of a training that know one size of clips."""
    switch, name = active_switch(cfg), cfg.MODEL.MODEL_NAME
    if not MODEL_REGISTRY.get(name).spec.any_clip_size:
        able = [n for n in MODEL_REGISTRY if MODEL_REGISTRY.get(n).spec.any_clip_size]
        yield Problem(
            f"{name} takes clips of one size only",
            f"set it False, or use one of {', '.join(sorted(able))}",
            switch,
        )
    if not task_class(cfg).divides_batches:
        yield Problem(
            f"batches of TASK {cfg.TASK} have a size of their own", "set it False", switch
        )
    if cfg.DIST.ELASTIC != "refuse":
        yield Problem(
            "steps of a multigrid training differ in size: it cannot go on with another number of "
            "processes",
            "set it refuse",
            "DIST.ELASTIC",
        )
    for key in ("SOLVER.KD", "TRAIN.COMPILE"):
        if cfg.lookup(key):
            yield Problem("is not possible with clips of several sizes", "set it False", key)


def _long_cycle(cfg: CfgNode) -> Iterable[Problem]:
    solver = cfg.SOLVER
    rising = all(first < last for first, last in pairwise([*solver.STEPS, solver.MAX_EPOCH]))
    if solver.LR_POLICY != "steps_with_relative_lrs" or len(solver.STEPS) < 2 or not rising:
        yield Problem(
            "the long cycle runs once for each step of the learning rate",
            "set SOLVER.LR_POLICY steps_with_relative_lrs, and two or more rising SOLVER.STEPS "
            "below SOLVER.MAX_EPOCH with their SOLVER.LRS",
            "MULTIGRID.LONG_CYCLE",
        )
    for pair in cfg.MULTIGRID.LONG_CYCLE_FACTORS:
        numbers = isinstance(pair, list) and len(pair) == 2
        if not numbers or not all(type(f) in (int, float) and f > 0 for f in pair):
            yield Problem(
                f"{pair} is not a pair of factors of frames and crop", "e.g. [0.5, 0.7071]", _SIZES
            )


def _batches(cfg: CfgNode) -> Iterable[Problem]:
    """Sizes of which not even one clip fits into the work of a batch."""
    data = cfg.DATA
    sizes, key = [(data.NUM_FRAMES, data.TRAIN_CROP_SIZE)], _CROPS
    if cfg.MULTIGRID.LONG_CYCLE:
        sizes = long_cycle_sizes(cfg)
    for frames, crop in sizes:
        if min(frames, crop) < 1:
            yield Problem(f"{frames} frames of {crop}² pixels are no clip", "raise it", _SIZES)
            continue
        *short, full = batch_shapes(cfg, frames, crop)
        key = _CROPS if full.factor else _SIZES
        for factor, size in (*short, full):
            if factor < 1 or size.crop < 1:
                yield Problem(
                    f"a batch of clips of {size.frames} frames of {size.crop}² pixels would hold "
                    f"{factor} times TRAIN.BATCH_SIZE videos",
                    "use smaller factors" if factor < 1 else "use larger factors",
                    key,
                )
                break


def _length(cfg: CfgNode) -> Iterable[Problem]:
    if plan_phases(cfg)[-1].end < 1:
        yield Problem("no epoch is left", "raise it", "MULTIGRID.EPOCH_FACTOR")


def _network(cfg: CfgNode) -> Iterable[Problem]:
    """What the network says of the sizes: SlowFast draws every n-th frame, for example."""
    check = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME).spec.check
    known = {problem.message for problem in check(cfg)}
    sizes = {shape.size for phase in plan_phases(cfg) for shape in phase.shapes}
    for frames, crop, _ in sorted(sizes):
        values = {"DATA.NUM_FRAMES": frames, "DATA.TRAIN_CROP_SIZE": crop}
        for problem in check(cfg.with_values(values, "MULTIGRID")):
            if problem.message not in known:
                known.add(problem.message)
                yield Problem(
                    f"{frames} frames of {crop}² pixels: {problem.message}",
                    problem.remedy,
                    _SIZES if cfg.MULTIGRID.LONG_CYCLE else _CROPS,
                )
