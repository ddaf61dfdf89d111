"""Mixed precision: the context in which a network is run."""

from __future__ import annotations

from collections.abc import Callable

import torch

from slowfast.config.node import CfgNode
from slowfast.utils.runtime import Runtime


def build_autocast(cfg: CfgNode, runtime: Runtime) -> Callable[[], torch.autocast]:
    """Makes contexts for forward passes: autocast where TRAIN.MIXED_PRECISION is on."""
    dtype = runtime.amp_dtype(cfg.TRAIN.AMP_DTYPE)
    enabled = cfg.TRAIN.MIXED_PRECISION
    return lambda: torch.autocast(runtime.device.type, dtype=dtype, enabled=enabled)


def build_scaler(cfg: CfgNode, runtime: Runtime) -> torch.amp.GradScaler:
    """Scales the loss of float16 on a GPU; does nothing elsewhere."""
    half = cfg.TRAIN.MIXED_PRECISION and runtime.amp_dtype(cfg.TRAIN.AMP_DTYPE) is torch.float16
    return torch.amp.GradScaler(runtime.device.type, enabled=half and runtime.on_gpu)
