"""Mixed precision: the context in which a network is run."""

from __future__ import annotations

from collections.abc import Callable

import torch

from slowfast.config.node import CfgNode
from slowfast.utils.runtime import Runtime


def lower_precision(cfg: CfgNode, runtime: Runtime) -> torch.dtype | None:
    """The type of mixed precision; None where TRAIN.MIXED_PRECISION is off."""
    return runtime.amp_dtype(cfg.TRAIN.AMP_DTYPE) if cfg.TRAIN.MIXED_PRECISION else None


def build_autocast(cfg: CfgNode, runtime: Runtime) -> Callable[[], torch.autocast]:
    """Makes contexts for forward passes: autocast where TRAIN.MIXED_PRECISION is on."""
    dtype = runtime.amp_dtype(cfg.TRAIN.AMP_DTYPE)
    enabled = cfg.TRAIN.MIXED_PRECISION
    return lambda: torch.autocast(runtime.device.type, dtype=dtype, enabled=enabled)
