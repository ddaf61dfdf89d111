"""Grad-CAM (arXiv 1610.02391): channels of a convolutional map, weighted by what they add to the
score of a class. Computed by Captum."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from slowfast.models.looks.record import ForwardRecord
from slowfast.models.looks.trace import normalized
from slowfast.utils.errors import UserError


def last_map(record: ForwardRecord, shape: Sequence[int]) -> str:
    """Name of the module that gave the last map over space, of a clip of ``shape``.

    A map is ``B C t h w`` or, frame by frame, ``B*T C h w``, of more than one position, from a
    convolution, a batch normalisation or a module that contains some. UserError if there is none.
    """
    b, _, t, *_ = shape
    modules = dict(record.model.named_modules())
    found = [
        name
        for name, size in record.shapes.items()
        if name
        and _is_map(size, b, t)
        and size[-1] * size[-2] > 1
        and size[1] in _channels(modules[name])
    ]
    if not found:
        raise UserError(
            "the network has no convolutional map of more than one position",
            "choose a larger crop, or another method",
            "--method gradcam",
        )
    return found[-1]


def _channels(module: nn.Module) -> set[int]:
    """Channels of the maps inside a module: other axes of tokens are told from channels by them."""
    layers = list(module.modules())
    convolutions = {layer.out_channels for layer in layers if isinstance(layer, _ConvNd)}
    return convolutions | {layer.num_features for layer in layers if isinstance(layer, _BatchNorm)}


def _is_map(size: Sequence[int], b: int, t: int) -> bool:
    frames = len(size) == 4 and size[0] == b * t
    return frames or (len(size) == 5 and size[0] == b)


def grad_cam(
    model: nn.Module, video: torch.Tensor, target: torch.Tensor, layers: Sequence[str]
) -> torch.Tensor:
    """Shares ``B t h w`` for the classes ``target`` ``B`` of a clip ``B 3 T H W``; several layers
    (pathways) are averaged on the grid of the finest. UserError if a layer gives no map."""
    modules = dict(model.named_modules())
    maps = []
    with torch.inference_mode(False), torch.enable_grad():
        video = video.clone().requires_grad_()  # weights may be frozen
        for name in layers:
            cam = _captum().LayerGradCam(model, modules[name])
            attributed = cam.attribute(video, target=target, relu_attributions=True).detach()
            maps.append(_as_clip(attributed.float().cpu(), name, video.shape))
    size = [max(sizes) for sizes in zip(*(one.shape[1:] for one in maps))]
    resized = [F.interpolate(one[:, None], size, mode="trilinear")[:, 0] for one in maps]
    return normalized(sum(normalized(one) for one in resized))


def _as_clip(maps: torch.Tensor, name: str, shape: Sequence[int]) -> torch.Tensor:
    b, _, t, *_ = shape
    if not _is_map(maps.shape, b, t):
        raise UserError(
            f"{name} gives {tuple(maps.shape)}, not a map B C T h w or B*T C h w",
            "choose a convolutional layer",
            "--layer",
        )
    return maps[:, 0] if maps.ndim == 5 else maps[:, 0].unflatten(0, (b, t))


def _captum() -> Any:
    try:
        return importlib.import_module("captum.attr")
    except ModuleNotFoundError as error:
        raise UserError(
            "captum is not installed", 'pip install -e ".[looks]"', "--method gradcam"
        ) from error
