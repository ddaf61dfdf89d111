"""Weights a run begins with, and weights that are tested."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.engine import checkpoint
from slowfast.models.base import MODEL_REGISTRY
from slowfast.models.weights.folder import folder_hash
from slowfast.models.weights.loader import find_pretrained, fitting_state, load_weights
from slowfast.models.weights.read import Checkpoint
from slowfast.utils.errors import UserError
from slowfast.utils.files import file_hash
from slowfast.utils.logging import get_logger
from slowfast.utils.remote import local_copy

logger = get_logger(__name__)


def load_initial_weights(cfg: CfgNode, network: nn.Module) -> None:
    """TRAIN.CHECKPOINT_FILE_PATH, else what the model's recipe names, else random weights."""
    path, key = cfg.TRAIN.CHECKPOINT_FILE_PATH, "TRAIN.CHECKPOINT_FILE_PATH"
    if not path:
        model = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME)
        name, key = model.spec.initial_weights(cfg), model.spec.weights_key
        if not name:
            logger.info("training starts from random weights")
            return
        path = str(find_pretrained(name, cfg.MODEL.PRETRAINED_DIR, key))
    load_weights(network, path, cfg, key)


@dataclass(frozen=True)
class TestedWeights:
    """The file whose weights are tested, and the names of its classes (empty if unknown)."""

    __test__ = False  # pytest must not collect it

    checkpoint: Checkpoint

    @cached_property
    def class_names(self) -> list[str]:
        """Names in label order, as the file says them."""
        return class_names(self.checkpoint)

    @property
    def epoch(self) -> int | None:
        """Finished epochs of the training, where the file says so."""
        epoch = self.checkpoint.content.get("epoch")
        return epoch + 1 if type(epoch) is int and epoch >= 0 else None

    @cached_property
    def sha256(self) -> str:
        """Hash of the file, or of what identifies a folder."""
        path = local_copy(self.checkpoint.path)
        return folder_hash(path) if path.is_dir() else file_hash(path)

    def facts(self) -> dict[str, Any]:
        """For the results of the test: ``path``, ``epoch``, ``sha256``, ``classes``."""
        path = str(self.checkpoint.path)
        names = self.class_names
        return {"path": path, "epoch": self.epoch, "sha256": self.sha256, "classes": names}


def find_tested_weights(cfg: CfgNode) -> TestedWeights:
    """TEST.CHECKPOINT_FILE_PATH, the run's own checkpoint, or the training's initial weights.

    UserError if there are none: random weights are never tested.
    """
    return TestedWeights(_find_tested(cfg))


def load_tested_weights(
    cfg: CfgNode, network: nn.Module, weights: TestedWeights | None = None
) -> TestedWeights:
    """Put the weights to be tested into ``network``; those that :func:`find_tested_weights` finds,
    if none are given."""
    weights = weights or find_tested_weights(cfg)
    tested = weights.checkpoint
    content = tested.content
    if content.get("ema_state") and cfg.EMA.ENABLE:
        network.load_state_dict(fitting_state(network, content["ema_state"], tested.path))
        logger.info("testing the averaged weights of %s", tested.path)
    elif "sampler_state" in content:  # a checkpoint of this package: nothing to convert
        network.load_state_dict(fitting_state(network, tested.state, tested.path))
        logger.info("testing %s", tested.path)
    else:
        load_weights(network, tested, cfg)
    if cfg.TEST.PATCHING_MODEL:
        _patch(cfg, network)
    return weights


def class_names(tested: Checkpoint) -> list[str]:
    """The names of the classes that a checkpoint was trained on, in label order; empty if it has
    none."""
    names = tested.content.get("class_names") or []
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"class_names in {tested.path} are not a list of texts",
            "take the weights alone: tools/convert_checkpoint.py strip",
            "TEST.CHECKPOINT_FILE_PATH",
        )
    return list(names)


def _find_tested(cfg: CfgNode) -> Checkpoint:
    """The file to test, which is read once; UserError if there is none."""
    if cfg.TEST.CHECKPOINT_FILE_PATH:
        return _read(cfg.TEST.CHECKPOINT_FILE_PATH, "TEST.CHECKPOINT_FILE_PATH")
    own = checkpoint.find_tested(cfg.OUTPUT_DIR, cfg.TEST.USE_CHECKPOINT, cfg.TASK)
    if own is not None:
        return own
    if cfg.TRAIN.CHECKPOINT_FILE_PATH:
        return _read(cfg.TRAIN.CHECKPOINT_FILE_PATH, "TRAIN.CHECKPOINT_FILE_PATH")
    zero_shot = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME).spec.zero_shot_weights(cfg)
    if zero_shot:
        return _read(zero_shot, "TEST.CLIP_ORI_PATH")
    raise UserError(
        f"there are no weights to test: none is named and {cfg.OUTPUT_DIR} holds none",
        "train first, or name a checkpoint",
        "TEST.CHECKPOINT_FILE_PATH",
    )


def _read(path: str, key: str) -> Checkpoint:
    return Checkpoint.read(path, key, mapped=True)


def _patch(cfg: CfgNode, network: nn.Module) -> None:
    """TEST.PATCHING_RATIO of the original weights plus the rest of the loaded ones (arXiv
    2208.05592); what the original does not have stays as it is."""
    path, ratio = cfg.TEST.CLIP_ORI_PATH or cfg.TRAIN.CLIP_ORI_PATH, cfg.TEST.PATCHING_RATIO
    if not path:
        raise UserError(
            "there are no original weights to mix in",
            "set TEST.CLIP_ORI_PATH",
            "TEST.PATCHING_MODEL",
        )
    trained = {name: value.clone() for name, value in network.state_dict().items()}
    load_weights(network, path, cfg, "TEST.CLIP_ORI_PATH")
    mixed = {
        name: torch.lerp(trained[name], value, ratio) if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(mixed)
    logger.info("%g of the weights of %s, %g of the tested ones", ratio, path, 1 - ratio)
