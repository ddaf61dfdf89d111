"""The network of a run, with the class names of its data."""

from __future__ import annotations

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.datasets.classnames import configured_names
from slowfast.models.base import VideoModel
from slowfast.models.build import build_model


def build_network(cfg: CfgNode, device: torch.device | str = "cpu") -> VideoModel:
    """The network that the configuration describes, on ``device``, with random weights; one that
    knows classes by their names gets those of the data."""
    network = arrange(cfg, build_model(cfg, device))
    if network.spec.open_vocabulary:
        network.set_classes(configured_names(cfg.DATA))
    return network


def arrange(cfg: CfgNode, network: nn.Module) -> nn.Module:
    """``network`` with the weights of its convolutions channels-last in memory, if it is on a GPU:
    the layout of the clips, in which tensor cores compute. Nothing else changes.

    FSDP shards weights as they lie in memory and takes contiguous ones only.
    """
    device = next(network.parameters()).device
    if device.type != "cpu" and cfg.DIST.STRATEGY == "ddp":
        for module in network.modules():
            if isinstance(module, _Convolution) and module.weight.ndim in _CHANNELS_LAST:
                layout = _CHANNELS_LAST[module.weight.ndim]
                module.weight.data = module.weight.data.contiguous(memory_format=layout)
    return network


_Convolution = nn.modules.conv._ConvNd
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
