"""Networks over single images that video models apply to each frame, and the input they expect.

A backbone of one's own is a function that gives (network, channels)::

    @BACKBONE_REGISTRY.register("my_net")
    def my_net():
        return MyNet(), 64  # images N 3 H W -> maps N 64 h w
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import timm
import torch
from torch import nn
from torchvision.models import squeezenet1_1

from slowfast.models.bninception import BNInception
from slowfast.utils.errors import UserError
from slowfast.utils.registry import Registry
from slowfast.video.device import InputFormat

_TIMM = "timm/"
IMAGENET = InputFormat((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# BGR 0..255 minus (104, 117, 128): the mean of each colour, on the scale 0..1, in RGB order.
CAFFE = InputFormat((128 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3, bgr=True)

BackboneBuilder = Callable[[], tuple[nn.Module, int]]


@dataclass(frozen=True)
class Backbone:
    """A builder with the input format that its ImageNet weights were trained on."""

    build: BackboneBuilder
    input_format: InputFormat = IMAGENET

    def __call__(self) -> tuple[nn.Module, int]:
        return self.build()


def _timm_backbone(name: str) -> Backbone | None:
    """The backbone ``timm/<name>``, or None if timm has no network of that name."""
    model = name.removeprefix(_TIMM)
    if not name.startswith(_TIMM) or not timm.is_model(model):
        return None
    trained = timm.get_pretrained_cfg(model)
    known = InputFormat(tuple(trained.mean), tuple(trained.std)) if trained else IMAGENET
    return Backbone(functools.partial(_build_timm, model), known)


def _build_timm(model: str) -> tuple[nn.Module, int]:
    network = timm.create_model(model, pretrained=False, num_classes=0, global_pool="")
    return network, network.num_features


def _near_timm(name: str) -> list[str]:
    models = timm.list_models(f"*{name.removeprefix(_TIMM).split('.')[0]}*")
    return [_TIMM + model for model in models[:3]]


BACKBONE_REGISTRY: Registry[BackboneBuilder] = Registry(
    "backbone", "TSN.BACKBONE", resolve=_timm_backbone, near=_near_timm
)


@BACKBONE_REGISTRY.register("squeezenet1_1")
def _squeezenet() -> tuple[nn.Module, int]:
    return squeezenet1_1(weights=None).features, 512


def _bninception() -> tuple[nn.Module, int]:
    return BNInception(), BNInception.num_features


BACKBONE_REGISTRY.register("BNInception")(Backbone(_bninception, CAFFE))


def build_backbone(name: str) -> tuple[nn.Module, int]:
    """(network, channels): images ``N 3 H W`` -> maps ``N channels h w``, random weights.

    UserError if there is no backbone of that name.
    """
    return BACKBONE_REGISTRY.get(name)()


def backbone_input(name: str) -> InputFormat:
    """What the backbone's ImageNet weights were trained on; ImageNet's usual values if unknown."""
    return getattr(BACKBONE_REGISTRY.get(name), "input_format", IMAGENET)


def frame_maps(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Images ``N 3 H W`` -> maps ``N channels h w``; UserError if the network gives no maps."""
    maps = getattr(network, "forward_features", network)(images)
    if maps.ndim != 4 or maps.shape[1] != getattr(network, "num_features", maps.shape[1]):
        raise UserError(
            f"{type(network).__name__} gives features of shape {tuple(maps.shape)}, not N C h w",
            "choose a convolutional network",
            "TSN.BACKBONE",
        )
    return maps
