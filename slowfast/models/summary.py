"""Size of a network: parameters, GFLOPs (multiply-adds, as the field counts) and activations."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.models.base import VideoModel


@dataclass(frozen=True)
class ModelSize:
    """``parameters`` and ``trained`` counts; ``gflops`` and ``mega_activations`` of one view."""

    parameters: int
    trained: int
    gflops: float
    mega_activations: float

    def __str__(self) -> str:
        return (
            f"{self.parameters / 1e6:.2f} M parameters ({self.trained / 1e6:.2f} M trained), "
            f"{self.gflops:.2f} GFLOPs and {self.mega_activations:.1f} M activations a view"
        )


def _shape(value: Any) -> list[int]:
    return value.type().sizes()


def _attention_flops(inputs: list[Any], outputs: list[Any]) -> Counter:
    """q k^T and the weighted sum of v: fvcore does not know the fused attention."""
    *batch, queries, dim = _shape(inputs[0])
    keys, value_dim = _shape(inputs[1])[-2], _shape(inputs[2])[-1]
    count = 1
    for size in batch:
        count *= size
    return Counter({"attention": count * queries * keys * (dim + value_dim)})


def measure_model(model: nn.Module, cfg: CfgNode, crop: int | None = None) -> ModelSize:
    """Count on one view ``1 3 T S S`` of the training size, in evaluation mode, on the CPU."""
    size = crop or cfg.DATA.TRAIN_CROP_SIZE
    device = next(model.parameters()).device
    video = torch.zeros(1, 3, cfg.DATA.NUM_FRAMES, size, size, device=device)
    was_training = model.training
    model.eval()
    if isinstance(model, VideoModel):
        model.begin("test")  # what is computed once per evaluation is not part of a view
    loggers = [logging.getLogger("fvcore"), logging.getLogger("fvcore.nn.jit_analysis")]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        flops = FlopCountAnalysis(model, video).set_op_handle(
            "aten::scaled_dot_product_attention", _attention_flops
        )
        activations = ActivationCountAnalysis(model, video)
        for analysis in (flops, activations):
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            analysis.tracer_warnings("none")
        with torch.no_grad():
            gflops, mega = flops.total() / 1e9, activations.total() / 1e6
    finally:
        for log, level in zip(loggers, levels):
            log.setLevel(level)
        model.train(was_training)
    parameters = list(model.parameters())
    return ModelSize(
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
        gflops,
        mega,
    )
