"""Mixed precision: the context in which a network is run."""

from __future__ import annotations

from collections.abc import Callable

import torch

from slowfast.config.node import CfgNode
from slowfast.utils.runtime import Runtime


def compute_dtype(cfg: CfgNode, runtime: Runtime) -> torch.dtype:
    """The type of forward passes: float32, or that of TRAIN.AMP_DTYPE."""
    if not cfg.TRAIN.MIXED_PRECISION:
        return torch.float32
    return runtime.amp_dtype(cfg.TRAIN.AMP_DTYPE)


def build_autocast(cfg: CfgNode, runtime: Runtime) -> Callable[[], torch.autocast]:
    """Makes contexts for forward passes: autocast where TRAIN.MIXED_PRECISION is on."""
    dtype = runtime.amp_dtype(cfg.TRAIN.AMP_DTYPE)
    enabled = cfg.TRAIN.MIXED_PRECISION
    return lambda: torch.autocast(runtime.device.type, dtype=dtype, enabled=enabled)
