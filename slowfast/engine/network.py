"""The network of a run, with the class names of its data."""

from __future__ import annotations

import torch

from slowfast.config.node import CfgNode
from slowfast.datasets.classnames import configured_names
from slowfast.models.base import VideoModel
from slowfast.models.build import build_model


def build_network(cfg: CfgNode, device: torch.device | str = "cpu") -> VideoModel:
    """The network that the configuration describes, on ``device``, with random weights; one that
    knows classes by their names gets those of the data."""
    network = build_model(cfg, device)
    if network.spec.open_vocabulary:
        network.set_classes(configured_names(cfg.DATA))
    return network
