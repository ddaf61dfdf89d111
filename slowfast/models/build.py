"""Model by name, frozen and prepared as the configuration says."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.validate import register_rule
from slowfast.models.base import MODEL_REGISTRY, VideoModel
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)


def build_model(cfg: CfgNode, device: torch.device | str = "cpu") -> VideoModel:
    """The model that the configuration describes, on ``device``, with random weights."""
    model = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME).from_cfg(cfg)
    if cfg.MODEL.FINETUNNING:
        freeze_for_finetuning(model)
    return model.to(device)


def freeze_for_finetuning(model: VideoModel) -> None:
    """Leave trainable only parameters whose name holds one of ``spec.finetune_patterns``."""
    trained = 0
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(part in name for part in model.spec.finetune_patterns)
        trained += parameter.requires_grad
    total = sum(1 for _ in model.parameters())
    logger.info("MODEL.FINETUNNING trains %d of %d parameters", trained, total)


def set_train_mode(model: nn.Module, frozen_bn: bool) -> None:
    """Training mode; with ``frozen_bn`` batch normalisation keeps its statistics."""
    model.train()
    if frozen_bn:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


@register_rule
def _model_rules(cfg: CfgNode) -> Iterable[Problem]:
    try:
        model = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME)
    except UserError as error:
        yield from error.problems
        return
    yield from model.spec.check(cfg)
