"""Size of a network: parameters, GFLOPs (multiply-adds, as the field counts) and activations."""

from __future__ import annotations

import contextlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis
from torch import nn

from slowfast.models.base import VideoModel

_DEPTHWISE = "slowfast::depthwise_conv3d"


@dataclass(frozen=True)
class ModelSize:
    """Counts of all and of ``trained`` parameters; GFLOPs and millions of activations per view."""

    parameters: int
    trained: int
    gflops: float
    mega_activations: float

    def __str__(self) -> str:
        return (
            f"{self.parameters / 1e6:.2f} M parameters ({self.trained / 1e6:.2f} M trained), "
            f"{self.gflops:.2f} GFLOPs and {self.mega_activations:.1f} M activations per view"
        )


def _shape(value: Any) -> list[int]:
    return value.type().sizes()


def _attention_flops(inputs: list[Any], outputs: list[Any]) -> Counter:
    """q k^T and the weighted sum of v: fvcore does not know the fused attention.

    MViT passes relative positions as additional channels of queries and keys and pads the values
    with zeros (:mod:`slowfast.layers.pooling_attention`). Its published GFLOPs count them as
    additions to the scores, that is, not at all: the width is that of the values before padding.
    """
    *batch, queries, dim = _shape(inputs[0])
    keys, value_dim = _shape(inputs[1])[-2], _shape(inputs[2])[-1]
    source = inputs[2].node()
    if source.kind() == "aten::pad":
        dim = value_dim = _shape(next(source.inputs()))[-1]
    return Counter({"attention": math.prod(batch) * queries * keys * (dim + value_dim)})


def _depthwise_flops(inputs: list[Any], outputs: list[Any]) -> Counter:
    """Of :mod:`slowfast.layers.depthwise_triton`, which computes on GPUs."""
    return Counter({"conv": math.prod(_shape(outputs[0])) * math.prod(_shape(inputs[1])[2:])})


def _depthwise_activations(inputs: list[Any], outputs: list[Any]) -> Counter:
    return Counter({"conv": math.prod(_shape(outputs[0]))})


@contextlib.contextmanager
def _quiet_fvcore() -> Iterator[None]:
    """Without fvcore's warnings about operations that cost nothing."""
    loggers = [logging.getLogger("fvcore"), logging.getLogger("fvcore.nn.jit_analysis")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


class _Measured(nn.Module):
    """A function of clips as the module that fvcore wants, with the network as its part."""

    def __init__(self, network: nn.Module, forward: Callable[[torch.Tensor], Any]):
        super().__init__()
        self.network, self.function = network, forward

    def forward(self, video: torch.Tensor) -> Any:
        return self.function(video)


def measure_model(
    model: nn.Module,
    num_frames: int,
    crop_size: int,
    forward: Callable[[torch.Tensor], Any] | None = None,
) -> ModelSize:
    """Count parameters, and operations on one view ``1 3 num_frames crop_size crop_size``.

    ``forward`` is what is measured, e.g. ``model.forward_features``; by default ``model`` itself,
    of a few-shot network its method ``embed``.
    Runs in evaluation mode on the device of the network, which is left as it was.
    """
    device = next(model.parameters()).device
    video = torch.zeros(1, 3, num_frames, crop_size, crop_size, device=device)
    forward = forward or getattr(model, "embed", None)
    measured = model if forward is None else _Measured(model, forward)
    was_training = model.training
    model.eval()
    try:
        if isinstance(model, VideoModel):
            model.begin("test")  # what is computed once per evaluation is not part of a view
        with _quiet_fvcore(), torch.no_grad():
            flops = FlopCountAnalysis(measured, video).set_op_handle(
                **{
                    "aten::scaled_dot_product_attention": _attention_flops,
                    _DEPTHWISE: _depthwise_flops,
                }
            )
            activations = ActivationCountAnalysis(measured, video)
            activations.set_op_handle(_DEPTHWISE, _depthwise_activations)
            for analysis in (flops, activations):
                analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
                analysis.tracer_warnings("none")
            gflops, mega_activations = flops.total() / 1e9, activations.total() / 1e6
    finally:
        model.train(was_training)
    parameters = list(model.parameters())
    return ModelSize(
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
        gflops,
        mega_activations,
    )
