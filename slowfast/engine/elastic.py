"""Runs that go on with another number of processes than they had (DIST.ELASTIC)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slowfast.config.node import CfgNode
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

KEY = "DIST.ELASTIC"
_SHOWN = 8
_MOST_PROCESSES = 1 << 16  # that are tried for a message


@dataclass(frozen=True)
class StepSize:
    """How many videos an optimizer step takes: ``accumulated`` batches of ``batch`` videos over all
    processes. ``intended`` is the number with which the run began; ``lr_factor`` of the learning
    rate makes up for another one."""

    batch: int
    accumulated: int
    intended: int
    lr_factor: float = 1.0

    @property
    def videos(self) -> int:
        """Videos of a step over all processes."""
        return self.batch * self.accumulated


def is_elastic(cfg: CfgNode, content: dict[str, Any]) -> bool:
    """Whether a run may go on from a checkpoint with any number of processes."""
    return cfg.DIST.ELASTIC != "refuse" and "step_videos" in content


def settle_step(
    cfg: CfgNode, batch: int, world: int, content: dict[str, Any] | None = None
) -> StepSize:
    """The step of a run whose ``world`` processes read ``batch`` videos at once, and which goes on
    from the ``content`` of a checkpoint.

    UserError naming the numbers of processes that fit if the step of the run cannot be kept.
    """
    accumulated = cfg.SOLVER.ACCUM_STEPS
    usual = StepSize(batch, accumulated, batch * accumulated)
    if content is None or not is_elastic(cfg, content):
        return usual
    intended = content["step_videos"]
    if type(intended) is not int or intended < 1 or intended == usual.videos:
        return usual
    before = content.get("world", "another number")
    if cfg.DIST.ELASTIC == "scale_lr":
        # SOLVER.LR_BATCH_SIZE does the same by itself.
        factor = 1.0 if cfg.SOLVER.LR_BATCH_SIZE else usual.videos / intended
        text = "%d processes, %s before: steps of %d videos instead of %d; learning rate times %g"
        logger.info(text, world, before, usual.videos, intended, usual.videos / intended)
        return StepSize(batch, accumulated, intended, factor)
    if intended % batch:
        raise UserError(
            f"a step of this run has {intended} videos, which {world} processes, "
            f"{batch // world} videos each, cannot divide",
            f"{_fitting(intended, batch // world)} processes can; or set it to scale_lr, or change "
            "TRAIN.BATCH_SIZE, with TRAIN.ALLOW_CHANGED_RESUME True",
            KEY,
        )
    kept = StepSize(batch, intended // batch, intended)
    text = "%d processes, %s before: a step of %d videos is made up of %d batches"
    logger.info(text, world, before, intended, kept.accumulated)
    return kept


def _fitting(videos: int, each: int) -> str:
    """The numbers of processes with ``each`` videos that divide a step of ``videos``."""
    most = min(videos // each, _MOST_PROCESSES)
    counts = [n for n in range(1, most + 1) if videos % (n * each) == 0]
    shown = ", ".join(map(str, counts[:_SHOWN])) + (", …" if len(counts) > _SHOWN else "")
    return shown or "no numbers of"
