"""The epochs of a training: how many, at which learning rate, evaluated and saved after which; with
multigrid training (:mod:`slowfast.datasets.multigrid`) also how batches are normalised."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from slowfast.config.node import CfgNode
from slowfast.datasets.multigrid import Phase, active_switch, phase_of, plan_phases
from slowfast.engine.schedule import is_due
from slowfast.engine.sharding import NormGroups
from slowfast.layers.sub_norm import SubBatchNorm
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import Runtime

logger = get_logger(__name__)


@dataclass(frozen=True)
class TrainingPlan:
    """``solver``: the section SOLVER, whose STEPS, LRS and MAX_EPOCH are those of the training;
    ``phases`` of a multigrid training; ``eval_freq``: see MULTIGRID.EVAL_FREQ, 0: none."""

    solver: CfgNode
    phases: Sequence[Phase] = ()
    eval_freq: int = 0

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> TrainingPlan:
        """The plan of a training."""
        if not active_switch(cfg):
            return cls(cfg.SOLVER)
        phases, long = plan_phases(cfg), cfg.MULTIGRID.LONG_CYCLE
        values = _long_cycle_rates(cfg, phases) if long else _longer_steps(cfg)
        values = {"MAX_EPOCH": phases[-1].end} | values
        solver = cfg.with_values({f"SOLVER.{k}": v for k, v in values.items()}, "MULTIGRID").SOLVER
        return cls(solver, phases, cfg.MULTIGRID.EVAL_FREQ if long else 0)

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return self.solver.MAX_EPOCH

    def is_due(self, epoch: int, period: int) -> bool:
        """Whether what happens every ``period`` epochs is due after 0-based ``epoch``.

        In a long cycle: ``eval_freq`` times in each phase, the last time at its end.
        """
        if not self.eval_freq:
            return is_due(epoch, period, self.epochs)
        start = 0
        for phase in self.phases:
            if epoch < phase.end:
                return (phase.end - 1 - epoch) % ((phase.end - start) // self.eval_freq + 1) == 0
            start = phase.end
        return False

    def describe(self, cfg: CfgNode, runtime: Runtime) -> list[str]:
        """The phases as the lines of a table; empty for a training without."""
        if not self.phases:
            return []
        lines = [
            f"multigrid training, {self.epochs} epochs:",
            f"  {'epochs':>9}   videos a batch x frames x crop, in turn",
        ]
        start = 0
        for phase in self.phases:
            shapes = ", ".join(
                f"{shape.factor * cfg.TRAIN.BATCH_SIZE} x {shape.size.frames} x {shape.size.crop}²"
                for shape in phase.shapes
            )
            text = f"  {f'{start + 1}-{phase.end}':>9}   {shapes}"
            low, high = phase.shapes[-1].size.rates
            text += f"; rate {low}" + (f" to {high}" if high > low else "")
            if self.eval_freq:
                text += f"; {_describe_norm(*norm_parts(cfg, phase, runtime))}"
            if phase.end > start:
                lines.append(text)
            start = phase.end
        return lines


def _longer_steps(cfg: CfgNode) -> dict[str, list[float]]:
    """The short cycle alone: the steps of the configuration, stretched."""
    factor = cfg.MULTIGRID.EPOCH_FACTOR
    return {"STEPS": [int(step * factor) for step in cfg.SOLVER.STEPS]}


def _long_cycle_rates(cfg: CfgNode, phases: Sequence[Phase]) -> dict[str, list[float]]:
    """A step of the learning rate at each phase: the factor of SOLVER.LRS, times that of the batch
    (linear scaling, arXiv 1706.02677). The first half of the last phase has the rate before it."""
    rates = [cfg.SOLVER.LRS[phase.step] * phase.factor for phase in phases]
    starts = [0, *(phase.end for phase in phases[:-1])]
    middle = (phases[-2].end + phases[-1].end) // 2
    return {"STEPS": [*starts, middle], "LRS": [*rates[:-1], rates[-2], rates[-1]]}


# -- normalisation -------------------------------------------------------------------------------


def norm_parts(cfg: CfgNode, phase: Phase, runtime: Runtime) -> tuple[int, int]:
    """(parts into which the batch of a process is divided, processes that share statistics), so
    that about BN_BASE_SIZE clips are normalised together; groups of processes are equally large."""
    videos = cfg.TRAIN.BATCH_SIZE * phase.factor
    base = cfg.MULTIGRID.BN_BASE_SIZE * runtime.local_world
    if videos >= base:
        return videos // base, 1
    wanted = range(1, min(base // videos, runtime.world) + 1)
    return 1, max(count for count in wanted if runtime.world % count == 0)


def _describe_norm(parts: int, processes: int) -> str:
    if parts > 1:
        return f"normalised in {parts} parts a process"
    return f"normalised over {processes} processes" if processes > 1 else "normalised as a batch"


class PhaseNorms:
    """Gives the normalisation layers of a network the parts of each phase of a long cycle."""

    def __init__(self, cfg: CfgNode, runtime: Runtime, plan: TrainingPlan):
        self.cfg, self.runtime, self.plan = cfg, runtime, plan
        self.groups = NormGroups(runtime)
        self._phase: Phase | None = None

    def enter(self, epoch: int, network: nn.Module, average: nn.Module | None) -> None:
        """Called before the first step of 0-based ``epoch``, on all ranks alike. The statistics
        go on from those that evaluations see. ``average`` of the weights never trains: it has the
        parts of the network and needs no other process."""
        if not self.plan.eval_freq or phase_of(self.plan.phases, epoch) is self._phase:
            return
        self._phase = phase_of(self.plan.phases, epoch)
        parts, processes = norm_parts(self.cfg, self._phase, self.runtime)
        logger.info("epoch %d: %s", epoch + 1, _describe_norm(parts, processes))
        synchronise = self.groups.synchroniser(processes) if processes > 1 else None
        for layer in _layers(network):
            layer.set_parts(parts, synchronise)
        for layer in _layers(average) if average is not None else ():
            layer.set_parts(parts)


def _layers(network: nn.Module) -> Iterable[SubBatchNorm]:
    return (module for module in network.modules() if isinstance(module, SubBatchNorm))
