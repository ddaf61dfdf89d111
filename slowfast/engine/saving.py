"""When checkpoints are due, and their writing: by one process for all, or by all together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slowfast.config.node import CfgNode
from slowfast.engine import checkpoint
from slowfast.engine.folder_writer import FolderWriter
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
        self._folders = FolderWriter(runtime, cfg.DIST.TIMEOUT, self._complete)

    def is_due(self, number: int) -> bool:
        """Whether this process wants a checkpoint after iteration ``number`` of an epoch."""
        train = self.cfg.TRAIN
        if train.CHECKPOINT_STEPS and (number + 1) % train.CHECKPOINT_STEPS == 0:
            return True
        minutes = (time.monotonic() - self._written_at) / 60
        return self.runtime.is_main and 0 < train.CHECKPOINT_MINUTES <= minutes

    @property
    def divided(self) -> bool:
        """Whether each process writes its share of a checkpoint."""
        return self.cfg.TRAIN.CHECKPOINT_FORMAT == "distributed"

    def mid_epoch_path(self, progress: Progress) -> Path:
        """The path of a checkpoint inside an epoch."""
        cfg = self.cfg
        path = checkpoint.mid_epoch_path(
            cfg.OUTPUT_DIR, progress.epoch, progress.iteration, cfg.TASK
        )
        return self._in_format(path)

    def paths(self, progress: Progress, as_epoch: bool, as_best: bool) -> list[Path]:
        """The paths of a checkpoint of finished epochs, in the order of writing."""
        cfg, paths = self.cfg, []
        if as_best:  # first: a run that is killed in between repeats this epoch
            paths.append(checkpoint.checkpoint_folder(cfg.OUTPUT_DIR) / checkpoint.BEST)
        if as_epoch:
            paths.append(checkpoint.checkpoint_path(cfg.OUTPUT_DIR, progress.epoch, cfg.TASK))
        return [self._in_format(path) for path in paths]

    def _in_format(self, path: Path) -> Path:
        return checkpoint.in_format(path, self.cfg.TRAIN.CHECKPOINT_FORMAT)

    def write(
        self, paths: Sequence[Path], content: dict[str, Any], wait: bool = False
    ) -> list[Path]:
        """Write a checkpoint as each of ``paths``; gives those, and earlier ones, that have become
        complete. All ranks call it; an error of one reaches all.

        With TRAIN.CHECKPOINT_ASYNC the checkpoint is complete later (:meth:`finish`), unless
        ``wait``; else no rank continues before.
        """
        if not self.divided:
            self._write_files(paths, content)
            return list(paths)
        complete = self.finish()
        self._agree(lambda: check_lock(self.cfg.OUTPUT_DIR))
        copied = self.cfg.TRAIN.CHECKPOINT_ASYNC and not wait
        self._folders.begin(paths, content, copied)
        self._written_at = time.monotonic()
        return complete if copied else complete + self._folders.finish()

    def finish(self) -> list[Path]:
        """Wait for the checkpoint that is being written; gives its paths, if there was one. All
        ranks call it; an error of one reaches all."""
        return self._folders.finish()

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, *_: object) -> None:
        # What was begun is completed, also where the run ends with an error.
        self._folders.close()

    def _write_files(self, paths: Sequence[Path], content: dict[str, Any]) -> None:
        self._agree(lambda: self._save(paths, content))
        if self.runtime.is_main:
            OutputMirror(self.cfg).save_or_warn()
        self._written_at = time.monotonic()

    def _save(self, paths: Sequence[Path], content: dict[str, Any]) -> None:
        check_lock(self.cfg.OUTPUT_DIR)
        for path in paths:
            checkpoint.save_checkpoint(path, content)
            logger.info("saved %s", path)
        self._prune(paths)

    def _agree(self, work: Callable[[], None]) -> None:
        """Let rank 0 do ``work``; its failure is that of all ranks."""
        failure = None
        if self.runtime.is_main:
            try:
                work()
            except UserError as error:
                failure = error
        failures = [error for error in gather_objects(failure) if error]
        if failures:
            raise failures[0]

    def _complete(self, paths: Sequence[Path]) -> None:
        for path in paths:
            logger.info("saved %s", path)
        self._prune(paths)
        OutputMirror(self.cfg).save_or_warn()

    def _prune(self, paths: Sequence[Path]) -> None:
        cfg = self.cfg
        for path in paths:
            checkpoint.remove_other_formats(path)
        checkpoint.prune_checkpoints(cfg.OUTPUT_DIR, cfg.TRAIN.KEEP_CHECKPOINTS, cfg.TASK)
