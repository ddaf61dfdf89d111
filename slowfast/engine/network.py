"""The network of a run, with the class names of its data."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from slowfast.config.load import register_derivation
from slowfast.config.node import CfgNode
from slowfast.config.validate import register_rule
from slowfast.datasets.classnames import configured_names
from slowfast.models.base import MODEL_REGISTRY, VideoModel
from slowfast.models.build import build_model
from slowfast.utils.errors import Problem


def build_network(cfg: CfgNode, device: torch.device | str = "cpu") -> VideoModel:
    """The network that the configuration describes, on ``device``, with random weights; one that
    knows classes by their names gets those of the data."""
    network = build_model(cfg, device)
    if network.spec.open_vocabulary:
        network.set_classes(configured_names(cfg.DATA))
    return network


def _reads_class_names(cfg: CfgNode) -> bool:
    name = cfg.MODEL.MODEL_NAME
    return name in MODEL_REGISTRY and MODEL_REGISTRY.get(name).spec.open_vocabulary


@register_rule
def _class_names(cfg: CfgNode) -> Iterable[Problem]:
    if _reads_class_names(cfg) and not configured_names(cfg.DATA):
        yield Problem(
            "this network reads the names of classes, and there are none",
            'name a JSON file {"0": "first class", "1": …}, or list them in DATA.CLASS_NAMES',
            "DATA.INDEX_LABEL_MAPPING_FILE",
        )


@register_derivation
def _number_of_classes(cfg: CfgNode) -> None:
    """A network that reads class names has as many outputs as there are names."""
    names = configured_names(cfg.DATA) if _reads_class_names(cfg) else []
    if names and len(names) != cfg.MODEL.NUM_CLASSES:
        cfg.assign("MODEL.NUM_CLASSES", len(names), "the class names")
