"""``get_cfg()``: the whole tree at its defaults, under PySlowFast's import path."""

from __future__ import annotations

import copy
import importlib

import slowfast.config.sections  # noqa: F401  (registers the common sections)
from slowfast.config.node import DEFAULT_ORIGIN, CfgNode
from slowfast.config.schema import SECTIONS


def get_cfg() -> CfgNode:
    """A fresh, unfrozen configuration with every section, those of the models included."""
    # These rooms stand above this one; what they register when they are imported (a model's
    # section, a rule about data sets) belongs to them: removing a model's file removes its keys.
    for room in ("slowfast.models", "slowfast.datasets.build", "slowfast.engine.rules"):
        importlib.import_module(room)
    cfg = CfgNode()
    for section in SECTIONS.values():
        node = cfg
        if section.name:
            node = cfg[section.name] = CfgNode()
        for name, key in section.keys.items():
            node[name] = copy.deepcopy(key.default)
    for dotted in cfg.flat():
        cfg.origins[dotted] = DEFAULT_ORIGIN
    return cfg
