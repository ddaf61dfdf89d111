"""Networks over single pictures that video models put to work, and the input each expects."""

from __future__ import annotations

import timm
import torch
from torch import nn
from torchvision.models import squeezenet1_1

from slowfast.models.bninception import BNInception
from slowfast.utils.errors import UserError
from slowfast.video.device import InputFormat

_TIMM = "timm/"
IMAGENET = InputFormat((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# BGR 0..255 minus (104, 117, 128): the mean of each colour, on the scale 0..1, in RGB order.
CAFFE = InputFormat((128 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3, bgr=True)


def is_backbone(name: str) -> bool:
    """True if :func:`build_backbone` knows the name."""
    if name.startswith(_TIMM):
        return timm.is_model(name.removeprefix(_TIMM))
    return name in ("squeezenet1_1", "BNInception")


def similar_backbones(name: str) -> list[str]:
    """A few names of timm that are like ``name``, with their prefix."""
    found = timm.list_models(f"*{name.removeprefix(_TIMM).split('.')[0]}*")
    return [_TIMM + model for model in found[:3]]


def build_backbone(name: str) -> tuple[nn.Module, int]:
    """(network, channels): pictures ``N 3 H W`` -> maps ``N channels h w``, random weights."""
    if name == "squeezenet1_1":
        return squeezenet1_1(weights=None).features, 512
    if name == "BNInception":
        return BNInception(), BNInception.num_features
    network = timm.create_model(
        name.removeprefix(_TIMM), pretrained=False, num_classes=0, global_pool=""
    )
    return network, network.num_features


def frame_maps(network: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """Pictures ``N 3 H W`` -> maps ``N channels h w``; UserError if the network gives no maps."""
    maps = getattr(network, "forward_features", network)(pictures)
    if maps.ndim != 4 or maps.shape[1] != getattr(network, "num_features", maps.shape[1]):
        raise UserError(
            f"{type(network).__name__} gives features of shape {tuple(maps.shape)}, no N C h w",
            "choose a convolutional network",
            "TSN.BACKBONE",
        )
    return maps


def backbone_input(name: str) -> InputFormat:
    """What the backbone's ImageNet weights were trained on."""
    if name == "BNInception":
        return CAFFE
    if name == "squeezenet1_1":
        return IMAGENET
    known = timm.get_pretrained_cfg(name.removeprefix(_TIMM))
    return InputFormat(tuple(known.mean), tuple(known.std)) if known else IMAGENET
