"""Loggers: where the figures of a run go. JSON lines always, others by LOGGERS.

A logger is built from (configuration, first step of this process's part of the run) on the main
process only, and takes figures by kind: ``train_iter``, ``train_epoch``, ``val_iter``,
``val_epoch``, ``test_iter``, ``test_final``, ``resume``, and ``train_step`` for every step.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from slowfast.config.node import CfgNode
from slowfast.utils.errors import UserError
from slowfast.utils.logging import log_json_stats
from slowfast.utils.registry import Registry

LOGGER_REGISTRY: Registry[type[Logger]] = Registry("logger", "LOGGERS")

# PySlowFast's names of scalars in TensorBoard.
_TAGS = {"loss": "loss", "lr": "lr", "top1_err": "Top1_err", "top5_err": "Top5_err"}
_TAG_GROUPS = {"train_step": "Train", "val_epoch": "Val"}
_COUNTS = {"videos", "episodes", "bad_items"}


class Logger(Protocol):
    """Takes the figures of a run."""

    def log(self, kind: str, figures: dict[str, Any], step: int) -> None:
        """Figures of a ``kind`` after optimizer step ``step``: numbers and texts."""
        ...

    def close(self) -> None:
        """The run has ended."""
        ...


class JsonLogger:
    """``json_stats`` lines in the log, ``stats.jsonl`` and ``json_stats.log``, as PySlowFast."""

    def __init__(self, cfg: CfgNode, first_step: int = 0):
        self.folder = cfg.OUTPUT_DIR

    def log(self, kind: str, figures: dict[str, Any], step: int) -> None:
        if kind != "train_step":
            log_json_stats(figures | {"_type": kind}, self.folder)

    def close(self) -> None:
        pass


def scalar_tags(kind: str, figures: dict[str, Any]) -> dict[str, float]:
    """Figures that belong into a plot, by PySlowFast's tags: ``Train/loss``, ``Val/Top1_err``."""
    group = _TAG_GROUPS.get(kind)
    if group is None:
        return {}
    return {
        f"{group}/{_TAGS.get(name, name)}": float(value)
        for name, value in figures.items()
        if isinstance(value, (int, float)) and not name.startswith("min_") and name not in _COUNTS
    }


@LOGGER_REGISTRY.register("tensorboard")
class TensorBoardLogger:
    """Scalars for TensorBoard. What a stopped run wrote beyond ``first_step`` is hidden."""

    def __init__(self, cfg: CfgNode, first_step: int = 0):
        name = cfg.TENSORBOARD.LOG_DIR or f"runs-{cfg.TRAIN.DATASET}"
        self._folder = str(Path(cfg.OUTPUT_DIR) / name)
        self._purge_step = first_step + 1 if first_step else None
        self._writer: Any = None

    def log(self, kind: str, figures: dict[str, Any], step: int) -> None:
        scalars = scalar_tags(kind, figures)
        if scalars and self._writer is None:  # a test writes no scalars, and no file
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(self._folder, purge_step=self._purge_step)
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


@LOGGER_REGISTRY.register("wandb")
class WandbLogger:
    """Weights & Biases; project and mode come from its own environment variables."""

    def __init__(self, cfg: CfgNode, first_step: int = 0):
        self._wandb, self._cfg, self._run = _installed("wandb"), cfg, None

    def log(self, kind: str, figures: dict[str, Any], step: int) -> None:
        scalars = scalar_tags(kind, figures)
        if scalars and self._run is None:
            cfg = self._cfg
            self._run = self._wandb.init(config=cfg.flat(), dir=cfg.OUTPUT_DIR, resume="allow")
        if scalars:
            self._run.log(scalars | {"step": step})

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()


@LOGGER_REGISTRY.register("mlflow")
class MlflowLogger:
    """MLflow; the tracking server comes from its own environment variables."""

    def __init__(self, cfg: CfgNode, first_step: int = 0):
        self._mlflow, self._started = _installed("mlflow"), False

    def log(self, kind: str, figures: dict[str, Any], step: int) -> None:
        scalars = scalar_tags(kind, figures)
        if scalars and not self._started:
            self._mlflow.start_run()
            self._started = True
        if scalars:
            self._mlflow.log_metrics(scalars, step=step)

    def close(self) -> None:
        if self._started:
            self._mlflow.end_run()


def _installed(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{package} is not installed", f"pip install {package}, or remove it", "LOGGERS"
        ) from error


class Loggers:
    """All loggers of a run; on other processes than the main one it does nothing."""

    def __init__(self, cfg: CfgNode, is_main: bool, first_step: int = 0):
        names = [*(["tensorboard"] if cfg.TENSORBOARD.ENABLE else []), *cfg.LOGGERS]
        self._loggers: Sequence[Logger] = ()
        if is_main:
            chosen = [LOGGER_REGISTRY.get(name)(cfg, first_step) for name in dict.fromkeys(names)]
            self._loggers = [JsonLogger(cfg), *chosen]

    def log(self, kind: str, figures: dict[str, Any], step: int) -> None:
        """Give figures to every logger."""
        for logger in self._loggers:
            logger.log(kind, figures, step)

    def close(self) -> None:
        for logger in self._loggers:
            logger.close()
