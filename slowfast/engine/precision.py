"""Precision of a run: which types it computes in, and how that is decided.

``TRAIN.MIXED_PRECISION`` None leaves it to the device: bfloat16 where it is fast. A run that is
resumed keeps the precision that it began with.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from slowfast.config.node import CfgNode
from slowfast.engine.checkpoint import newest_setting
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import Runtime

logger = get_logger(__name__)

KEY = "TRAIN.MIXED_PRECISION"


def is_mixed(cfg: CfgNode, runtime: Runtime) -> bool:
    """Whether forward passes run in a lower precision: as the key says, else as the device is."""
    chosen = cfg.TRAIN.MIXED_PRECISION
    return runtime.has_fast_bfloat16() if chosen is None else chosen


def compute_dtype(cfg: CfgNode, runtime: Runtime) -> torch.dtype:
    """The type of forward passes: float32, or that of TRAIN.AMP_DTYPE."""
    return lower_precision(cfg, runtime) or torch.float32


def settle_precision(cfg: CfgNode, runtime: Runtime) -> CfgNode:
    """The configuration with TRAIN.MIXED_PRECISION decided, and PyTorch set up for it.

    Logs what was chosen, and why. The decision stands in the checkpoints of the run.
    """
    gpu = cfg.GPU
    runtime.tune(gpu.TF32, gpu.CUDNN_BENCHMARK, gpu.DETERMINISTIC)
    reason = f"{KEY} says so"
    if cfg.TRAIN.MIXED_PRECISION is None:
        value, reason = _decision(cfg, runtime)
        cfg = cfg.with_value(KEY, value, reason)
    name = str(compute_dtype(cfg, runtime)).removeprefix("torch.")
    if runtime.on_gpu and gpu.TF32:
        name += " (float32 products in TF32)"
    logger.info("the network computes in %s: %s", name, reason)
    return cfg


def _decision(cfg: CfgNode, runtime: Runtime) -> tuple[bool, str]:
    """(whether the precision is mixed, why) where the configuration leaves it open."""
    if cfg.TRAIN.ENABLE and cfg.TRAIN.AUTO_RESUME:
        path, before = newest_setting(cfg.OUTPUT_DIR, KEY, cfg.TASK)
        if before is not None:
            return before, f"as the run began, see {path}"
    if runtime.has_fast_bfloat16():
        return True, f"{runtime.device.type} computes fast in it ({KEY} False avoids it)"
    return False, f"{runtime.device.type} has no fast bfloat16 ({KEY} True forces it)"


def lower_precision(cfg: CfgNode, runtime: Runtime) -> torch.dtype | None:
    """The type of mixed precision; None where everything is float32."""
    return runtime.amp_dtype(cfg.TRAIN.AMP_DTYPE) if is_mixed(cfg, runtime) else None


def build_autocast(cfg: CfgNode, runtime: Runtime) -> Callable[[], torch.autocast]:
    """Makes contexts for forward passes: autocast where the precision is mixed."""
    dtype, enabled = runtime.amp_dtype(cfg.TRAIN.AMP_DTYPE), is_mixed(cfg, runtime)
    return lambda: torch.autocast(runtime.device.type, dtype=dtype, enabled=enabled)


def build_scaler(cfg: CfgNode, runtime: Runtime) -> torch.amp.GradScaler:
    """Scales the loss of float16 on a GPU; does nothing elsewhere."""
    half = compute_dtype(cfg, runtime) is torch.float16
    return torch.amp.GradScaler(runtime.device.type, enabled=half and runtime.on_gpu)
