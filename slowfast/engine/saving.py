"""When checkpoints are due, and their writing by one process for all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from slowfast.config.node import CfgNode
from slowfast.engine import checkpoint
from slowfast.engine.mirror import OutputMirror
from slowfast.engine.state import Progress
from slowfast.utils.distributed import gather_objects
from slowfast.utils.errors import UserError
from slowfast.utils.locks import check_lock
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import Runtime

logger = get_logger(__name__)


class CheckpointWriter:
    """Paths, schedule and writing of the checkpoints of a run."""

    def __init__(self, cfg: CfgNode, runtime: Runtime):
        self.cfg, self.runtime = cfg, runtime
        self._written_at = time.monotonic()

    def is_due(self, number: int) -> bool:
        """Whether this process wants a checkpoint after iteration ``number`` of an epoch."""
        train = self.cfg.TRAIN
        if train.CHECKPOINT_STEPS and (number + 1) % train.CHECKPOINT_STEPS == 0:
            return True
        minutes = (time.monotonic() - self._written_at) / 60
        return self.runtime.is_main and 0 < train.CHECKPOINT_MINUTES <= minutes

    def mid_epoch_path(self, progress: Progress) -> Path:
        """The file of a checkpoint inside an epoch."""
        cfg = self.cfg
        return checkpoint.mid_epoch_path(
            cfg.OUTPUT_DIR, progress.epoch, progress.iteration, cfg.TASK
        )

    def paths(self, progress: Progress, as_epoch: bool, as_best: bool) -> list[Path]:
        """The files of a checkpoint of finished epochs, in the order of writing."""
        cfg, paths = self.cfg, []
        if as_best:  # first: a run that is killed in between repeats this epoch
            paths.append(checkpoint.checkpoint_folder(cfg.OUTPUT_DIR) / checkpoint.BEST)
        if as_epoch:
            paths.append(checkpoint.checkpoint_path(cfg.OUTPUT_DIR, progress.epoch, cfg.TASK))
        return paths

    def write(self, contents: dict[Path, dict[str, Any]]) -> None:
        """Write files on rank 0, and remove old ones.

        No rank continues before they are complete; an error on rank 0 reaches all.
        """
        cfg, failure = self.cfg, None
        if self.runtime.is_main:
            try:
                check_lock(cfg.OUTPUT_DIR)
                for path, content in contents.items():
                    checkpoint.save_checkpoint(path, content)
                    logger.info("saved %s", path)
                checkpoint.prune_checkpoints(cfg.OUTPUT_DIR, cfg.TRAIN.KEEP_CHECKPOINTS, cfg.TASK)
            except UserError as error:
                failure = error
        failures = [error for error in gather_objects(failure) if error]
        if failures:
            raise failures[0]
        if self.runtime.is_main:
            OutputMirror(cfg).save_or_warn()
        self._written_at = time.monotonic()
