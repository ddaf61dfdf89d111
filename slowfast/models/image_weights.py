"""ImageNet weights of 2-D networks, renamed for the networks that start from them."""

from __future__ import annotations

import re

from torch import nn

from slowfast.models.residual_weights import Rule, rename
from slowfast.models.spec import State, WeightSource

# First convolutions of 2-D networks: BN-Inception, torchvision's SqueezeNet, timm's families.
_FIRST_CONVOLUTIONS = (
    "conv1_7x7_s2.weight",
    "features.0.weight",
    "conv_stem.weight",
    "conv1.weight",
    "stem.conv.weight",
    "stem.conv1.weight",
    "stem.0.weight",
    "conv1.0.weight",
)


def is_image_network(state: State) -> bool:
    """Whether a state dict is that of a convolutional network over images."""
    return any(name in state and state[name].ndim == 4 for name in _FIRST_CONVOLUTIONS)


def _under_base_model(state: State, model: nn.Module) -> State:
    """ImageNet weights of a 2-D network, without its classifier, under ``base_model``."""
    expected, adapted = set(model.state_dict()), {}
    for name, value in state.items():
        target = f"base_model.{name.removeprefix('features.')}"  # torchvision's SqueezeNet
        if target in expected:
            # The first conversion of BN-Inception stored normalisations as 1 x C.
            wrapped = "_bn." in name and value.ndim == 2 and len(value) == 1
            adapted[target] = value[0] if wrapped else value
    return adapted


_IMAGE_PARTS: tuple[Rule, ...] = (
    (r"conv1\.(.+)", r"s1.pathway0_stem.conv.\1"),
    (r"bn1\.(.+)", r"s1.pathway0_stem.bn.\1"),
)
_IMAGE_CONVOLUTIONS = {"1": "a", "2": "b", "3": "c"}
_IMAGE_NORMS = {"0": "branch1", "1": "branch1_bn"}


def image_resnet_names(state: State) -> State:
    """Names of a 2-D ResNet (torchvision, timm) -> those of the slow pathway; its classifier of
    images is left out."""
    adapted = {}
    for name, value in state.items():
        match = re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(.+)", name)
        if match:
            stage, block, kind, number, leaf = match.groups()
            if kind == "downsample.":
                part = _IMAGE_NORMS.get(number, f"downsample.{number}")
            else:
                letter = _IMAGE_CONVOLUTIONS.get(number, number)
                part = f"branch2.{letter}{'_bn' if kind == 'bn' else ''}"
            name = f"s{int(stage) + 1}.pathway0_res{block}.{part}.{leaf}"
        elif name.startswith(("fc.", "head.")):
            continue
        adapted[rename(name, _IMAGE_PARTS)] = value
    return adapted


def _adapt(state: State, model: nn.Module) -> State:
    if hasattr(model, "base_model"):
        return _under_base_model(state, model)
    return image_resnet_names(state) if hasattr(model, "s1") else state


IMAGE_SOURCE = WeightSource(
    "a 2-D network (ImageNet)",
    is_image_network,
    _adapt,
    ("new_fc.", "consensus.", "_nonlocal", "_fuse.", "pathway1_", "head.projection."),
)
