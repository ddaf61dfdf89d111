"""Configuration rules that need registries of this room: names of parts, division of batches."""

from __future__ import annotations

from collections.abc import Iterable

from slowfast.config.node import CfgNode
from slowfast.config.validate import register_rule
from slowfast.datasets.batch_samplers import BATCH_SAMPLER_REGISTRY
from slowfast.engine.callbacks import CALLBACK_REGISTRY
from slowfast.engine.loggers import LOGGER_REGISTRY
from slowfast.engine.tasks import task_class
from slowfast.metrics.evaluators import METRIC_REGISTRY
from slowfast.utils.errors import Problem, UserError


@register_rule
def _known_parts(cfg: CfgNode) -> Iterable[Problem]:
    for key, registry in (
        ("CALLBACKS", CALLBACK_REGISTRY),
        ("LOGGERS", LOGGER_REGISTRY),
        ("TEST.METRICS", METRIC_REGISTRY),
        ("DATA.BATCH_SAMPLER", BATCH_SAMPLER_REGISTRY),
    ):
        value = cfg.lookup(key)
        for name in value if isinstance(value, list) else [value]:
            try:
                registry.get(name)
            except UserError as error:
                yield from error.problems


@register_rule
def _batches_divide(cfg: CfgNode) -> Iterable[Problem]:
    if not task_class(cfg).divides_batches:
        return
    for part in ("TRAIN", "TEST"):
        size = cfg[part].BATCH_SIZE
        if cfg.NUM_GPUS > 1 and size % cfg.NUM_GPUS:
            below = max(size // cfg.NUM_GPUS, 1) * cfg.NUM_GPUS
            yield Problem(
                f"{size} cannot be divided among NUM_GPUS {cfg.NUM_GPUS}",
                f"use {below} or {below + cfg.NUM_GPUS}",
                f"{part}.BATCH_SIZE",
            )
