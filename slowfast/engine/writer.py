"""TensorBoard scalars under PySlowFast's names."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from slowfast.config.node import CfgNode


class ScalarWriter:
    """Writes nothing when TensorBoard is off or this is not the main process.

    A resumed run begins after ``first_step``; what a stopped one wrote beyond it is hidden.
    """

    def __init__(self, cfg: CfgNode, is_main: bool, first_step: int = 0):
        self._writer = None
        if cfg.TENSORBOARD.ENABLE and is_main:
            name = cfg.TENSORBOARD.LOG_DIR or f"runs-{cfg.TRAIN.DATASET}"
            folder = str(Path(cfg.OUTPUT_DIR) / name)
            self._writer = SummaryWriter(folder, purge_step=first_step + 1 if first_step else None)

    def add(self, scalars: dict[str, float], step: int) -> None:
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
