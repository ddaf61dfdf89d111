"""``get_cfg()``: the whole tree at its defaults, under PySlowFast's import path."""

from __future__ import annotations

import slowfast.config.sections  # noqa: F401  (registers the common sections)
from slowfast.config.node import CfgNode
from slowfast.config.schema import load_registered


def get_cfg() -> CfgNode:
    """A fresh, unfrozen configuration with every section, those of models and plugins included."""
    load_registered()
    cfg = CfgNode()
    cfg.add_sections()
    return cfg
