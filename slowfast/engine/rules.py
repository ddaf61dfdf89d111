"""Rules and derived values of a configuration that need networks, data sets or optimizers."""

from __future__ import annotations

from collections.abc import Iterable

from slowfast.config.load import register_derivation
from slowfast.config.node import CfgNode
from slowfast.config.validate import register_rule
from slowfast.datasets.classnames import configured_names
from slowfast.engine.optim import OPTIMIZER_REGISTRY
from slowfast.models.base import MODEL_REGISTRY
from slowfast.utils.errors import Problem


@register_derivation
def _num_classes_of_names(cfg: CfgNode) -> None:
    """A network that reads class names has as many outputs as there are names."""
    open_vocabulary = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME).spec.open_vocabulary
    names = configured_names(cfg.DATA) if open_vocabulary else []
    if names and len(names) != cfg.MODEL.NUM_CLASSES:
        cfg.assign("MODEL.NUM_CLASSES", len(names), "the class names")


@register_rule
def _model_rules(cfg: CfgNode) -> Iterable[Problem]:
    """What the selected network says about the configuration."""
    unknown = MODEL_REGISTRY.problems(cfg.MODEL.MODEL_NAME)
    yield from unknown
    if not unknown:
        yield from MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME).spec.check(cfg)


@register_rule
def _optimizer_rules(cfg: CfgNode) -> Iterable[Problem]:
    yield from OPTIMIZER_REGISTRY.problems(cfg.SOLVER.OPTIMIZING_METHOD)
    if not cfg.TRAIN.ENABLE or cfg.SOLVER.LAYER_DECAY == 1.0:
        return
    name = cfg.MODEL.MODEL_NAME
    if name in MODEL_REGISTRY and MODEL_REGISTRY.get(name).spec.layer_of is None:
        yield Problem(
            f"{name} has no layers for layer decay",
            "set SOLVER.LAYER_DECAY 1.0",
            "SOLVER.LAYER_DECAY",
        )
