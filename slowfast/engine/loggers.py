"""Loggers: where the figures of a run go. JSON lines always, others by LOGGERS.

A logger is built from (configuration, first step of this process's part of the run) on the main
process only, and takes figures by kind: ``train_iter``, ``train_epoch``, ``val_iter``,
``val_epoch``, ``test_iter``, ``test_final``, ``resume``, and ``train_step`` for every step. One
that has a method ``log_scores`` (see :meth:`Loggers.log_scores`) also takes the scores of
evaluations.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from slowfast.config.node import CfgNode
from slowfast.engine.tensorboard.evaluation import EvaluationPictures
from slowfast.metrics.evaluators import Evaluator, class_scores
from slowfast.utils.errors import UserError
from slowfast.utils.logging import log_json_stats
from slowfast.utils.registry import Registry
from slowfast.video.overlay import animated

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
    """Scalars and pictures for TensorBoard. What a stopped run wrote beyond ``first_step`` is
    hidden. A file is written only when there is something to write.

    UserError if the section TENSORBOARD names files that cannot be read, or asks for pictures and
    Matplotlib is missing.
    """

    def __init__(self, cfg: CfgNode, first_step: int = 0):
        self._pictures = EvaluationPictures(cfg)
        name = cfg.TENSORBOARD.LOG_DIR or f"runs-{cfg.TRAIN.DATASET}"
        self._folder = str(Path(cfg.OUTPUT_DIR) / name)
        self._purge_step = first_step + 1 if first_step else None
        self._opened: Any = None

    @property
    def _writer(self) -> Any:
        if self._opened is None:
            from torch.utils.tensorboard import SummaryWriter

            self._opened = SummaryWriter(self._folder, purge_step=self._purge_step)
        return self._opened

    def log(self, kind: str, figures: dict[str, Any], step: int) -> None:
        for tag, value in scalar_tags(kind, figures).items():
            self._writer.add_scalar(tag, value, step)

    def log_scores(
        self,
        name: str,
        scores: torch.Tensor,
        labels: torch.Tensor,
        classes: Sequence[str],
        step: int,
    ) -> None:
        """Confusion matrices and histograms, below ``name`` where there is one."""
        if self._pictures.enabled:
            for tag, image in self._pictures.draw(scores, labels, classes):
                self.add_image(f"{name}/{tag}" if name else tag, image, step)

    def add_image(self, tag: str, image: np.ndarray, step: int = 0) -> None:
        """uint8 RGB ``H W 3``."""
        self._writer.add_image(tag, image, step, dataformats="HWC")

    def add_animation(self, tag: str, frames: np.ndarray, fps: float, step: int = 0) -> None:
        """uint8 RGB ``T H W 3``, which TensorBoard plays as an image."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        height, width = frames.shape[1:3]
        picture = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=animated(frames, fps)
        )
        summary = Summary(value=[Summary.Value(tag=tag, image=picture)])
        self._writer._get_file_writer().add_summary(summary, step)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()


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

    def log_scores(
        self, name: str, evaluator: Evaluator, classes: Sequence[str], step: int
    ) -> None:
        """Give scores ``N classes`` and labels ``N`` of all videos of an evaluation to the loggers
        that take them: ``log_scores(name, scores, labels, classes, step)``.

        ``name`` of the test, empty for a validation; ``classes``: names, empty if unknown.
        """
        takers = [logger for logger in self._loggers if hasattr(logger, "log_scores")]
        found = class_scores(evaluator) if takers else None
        for logger in takers if found is not None else ():
            logger.log_scores(name, *found, classes, step)

    def close(self) -> None:
        for logger in self._loggers:
            logger.close()
