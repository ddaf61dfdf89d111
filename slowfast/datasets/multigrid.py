"""Multigrid training: which clips and batches an epoch has ("A Multigrid Method for Efficiently
Training Video Models", arXiv 1912.00998; numbers as in PySlowFast).

The work of a batch stays about the same: where clips are smaller, there are more of them. In the
short cycle consecutive batches have different crops. In the long cycle the epochs go through sizes
from small to large, once for each step of the learning rate; what follows the last step is trained
at full size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from slowfast.config.node import CfgNode
from slowfast.datasets.clip_reader import ClipSize

KEYS = ("MULTIGRID.LONG_CYCLE", "MULTIGRID.SHORT_CYCLE")


class BatchShape(NamedTuple):
    """A batch: ``factor`` times the videos of TRAIN.BATCH_SIZE, clips of ``size`` (None: that of
    the configuration)."""

    factor: int
    size: ClipSize | None


class Phase(NamedTuple):
    """Epochs up to ``end`` with clips of one size of the long cycle.

    ``step`` is the entry of SOLVER.LRS; ``shapes`` are those of the batches, which they take in
    turn, the last one with the crop of the phase.
    """

    step: int
    shapes: tuple[BatchShape, ...]
    end: int

    @property
    def factor(self) -> int:
        """Videos of a batch with the crop of the phase, relative to TRAIN.BATCH_SIZE."""
        return self.shapes[-1].factor


def active_switch(cfg: CfgNode) -> str:
    """The key that makes a training a multigrid one; empty if none does."""
    return next((key for key in KEYS if cfg.TRAIN.ENABLE and cfg.lookup(key)), "")


def plan_phases(cfg: CfgNode) -> list[Phase]:
    """The phases of a multigrid training, in order; one without the long cycle."""
    if cfg.MULTIGRID.LONG_CYCLE:
        return _long_cycle(cfg)
    data = cfg.DATA
    shapes = batch_shapes(cfg, data.NUM_FRAMES, data.TRAIN_CROP_SIZE)
    return [Phase(0, shapes, int(cfg.SOLVER.MAX_EPOCH * cfg.MULTIGRID.EPOCH_FACTOR))]


def phase_of(phases: Sequence[Phase], epoch: int) -> Phase:
    """The phase of a 0-based epoch."""
    return next((phase for phase in phases if epoch < phase.end), phases[-1])


def long_cycle_sizes(cfg: CfgNode) -> list[tuple[int, int]]:
    """(frames, crop) of the sizes of the long cycle."""
    data = cfg.DATA
    return [
        (round(data.NUM_FRAMES * time), round(data.TRAIN_CROP_SIZE * space))
        for time, space in cfg.MULTIGRID.LONG_CYCLE_FACTORS
    ]


def batch_shapes(cfg: CfgNode, frames: int, crop: int) -> tuple[BatchShape, ...]:
    """The batches of a phase whose clips have ``frames`` and, at the end of a cycle, ``crop``."""
    data = cfg.DATA
    rate = data.SAMPLING_RATE
    rates = (rate, rate * (data.NUM_FRAMES // frames))
    factor = _volume_factor(cfg, frames, crop)
    shapes = [
        BatchShape(factor * round((crop / side) ** 2), ClipSize(frames, round(side), rates))
        for side in _short_sides(cfg)
    ]
    return (*shapes, BatchShape(factor, ClipSize(frames, crop, rates)))


def _short_sides(cfg: CfgNode) -> list[float]:
    grid = cfg.MULTIGRID
    factors = grid.SHORT_CYCLE_FACTORS if grid.SHORT_CYCLE else []
    return [cfg.DATA.TRAIN_CROP_SIZE * factor for factor in factors]


def _volume_factor(cfg: CfgNode, frames: int, side: float) -> int:
    """How many clips of this size have as many pixels as one of full size."""
    data = cfg.DATA
    return round(data.NUM_FRAMES * data.TRAIN_CROP_SIZE**2 / (frames * side * side))


def _long_cycle(cfg: CfgNode) -> list[Phase]:
    """Epochs of each size in proportion to the mean of its batches, so that all sizes take equally
    many steps; those after the last step of the learning rate are as much fewer, in steps, as
    those before it. All together are EPOCH_FACTOR times as many as configured."""
    solver, sizes = cfg.SOLVER, long_cycle_sizes(cfg)
    means = []
    for frames, crop in sizes:
        batches = [_volume_factor(cfg, frames, side) for side in (*_short_sides(cfg), crop)]
        means.append(sum(batches) / len(batches))
    parts: list[tuple[int, tuple[int, int], float]] = []
    for step, (first, last) in enumerate(pairwise(solver.STEPS)):
        for size, mean in zip(sizes, means):
            parts.append((step, size, (last - first) * mean / sum(means)))
    end = solver.STEPS[-1]
    steps_per_epoch = len(sizes) / sum(means)
    last_epochs = (solver.MAX_EPOCH - end) * steps_per_epoch * means[-1]
    parts.append((len(solver.STEPS) - 1, sizes[-1], last_epochs))
    scale = solver.MAX_EPOCH * cfg.MULTIGRID.EPOCH_FACTOR / sum(part[2] for part in parts)
    phases, epochs = [], 0.0
    for step, size, share in parts:
        epochs += share * scale
        phases.append(Phase(step, batch_shapes(cfg, *size), round(epochs)))
    return phases
