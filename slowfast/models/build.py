"""Model by name, frozen and prepared as the configuration says."""

from __future__ import annotations

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.layers.checkpointing import keep_products
from slowfast.layers.sub_norm import with_sub_norm
from slowfast.layers.workarounds import with_cpu_workarounds
from slowfast.models.base import MODEL_REGISTRY, VideoModel
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)


def build_model(
    cfg: CfgNode, device: torch.device | str = "cpu", num_classes: int | None = None
) -> VideoModel:
    """The model that the configuration describes, on ``device``, with random weights.

    ``num_classes`` replaces MODEL.NUM_CLASSES. UserError if no model has that name.
    """
    if num_classes is not None and num_classes != cfg.MODEL.NUM_CLASSES:
        cfg = cfg.with_value("MODEL.NUM_CLASSES", num_classes, "num_classes")
    model = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME).from_cfg(cfg)
    if cfg.MULTIGRID.LONG_CYCLE:  # each of its phases sets the number of parts
        with_sub_norm(model, 1)
    elif cfg.BN.NORM_TYPE == "sub_batchnorm":
        with_sub_norm(model, cfg.BN.NUM_SPLITS)
    with_cpu_workarounds(model)
    if cfg.MODEL.ACT_CHECKPOINT_KEEPS == "products":
        keep_products(model)
    if cfg.MODEL.FINETUNNING:
        freeze_for_finetuning(model)
    return model.to(device)


def freeze_for_finetuning(model: VideoModel) -> None:
    """Leave trainable only parameters whose name holds one of ``spec.finetune_patterns``; what
    the network itself froze stays so."""
    trained = 0
    for name, parameter in model.named_parameters():
        named = any(part in name for part in model.spec.finetune_patterns)
        parameter.requires_grad = parameter.requires_grad and named
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
