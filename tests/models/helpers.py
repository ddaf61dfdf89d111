"""Tiny networks of the registry and clips for them."""

from __future__ import annotations

from typing import Any

import torch

from slowfast.config.load import load_config
from slowfast.config.node import CfgNode
from slowfast.engine.network import build_network
from slowfast.models import MODEL_REGISTRY, VideoModel
from tests.conftest import words


def build(
    name: str, extra: dict[str, Any] | None = None, seed: int = 0
) -> tuple[CfgNode, VideoModel]:
    """(configuration, network) of the variant that a network names for tests."""
    tiny = {"NUM_GPUS": 0, "MODEL.NUM_CLASSES": 5, "MODEL.MODEL_NAME": name}
    cfg = load_config(
        overrides=words(tiny | MODEL_REGISTRY.get(name).spec.test_overrides | (extra or {}))
    )
    torch.manual_seed(seed)
    model = build_network(cfg)
    model.begin("train")
    return cfg, model


def to_eval(model: VideoModel) -> VideoModel:
    """``model`` in evaluation mode, with everything computed that does not depend on clips."""
    model.eval().begin("test")
    return model


def clips(cfg: CfgNode, batch: int = 2, seed: int = 1) -> torch.Tensor:
    """Noise of the size that a configuration trains on: ``batch 3 T S S``."""
    size = cfg.DATA.TRAIN_CROP_SIZE
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, cfg.DATA.NUM_FRAMES, size, size, generator=generator)
