"""What a run can do besides training and testing, as other rooms register it."""

from __future__ import annotations

from collections.abc import Callable

from slowfast.config.node import CfgNode
from slowfast.utils.registry import Registry
from slowfast.utils.runtime import Runtime

Mode = Callable[[CfgNode, Runtime], object]
# The section whose key ENABLE turns a mode on -> the mode; in this order, after the test.
MODE_REGISTRY: Registry[Mode] = Registry("mode")


def chosen_modes(cfg: CfgNode) -> list[str]:
    """Sections of the modes that the configuration turns on."""
    return [section for section in MODE_REGISTRY if cfg[section].ENABLE]


def run_modes(cfg: CfgNode, runtime: Runtime) -> None:
    """All modes that the configuration turns on."""
    for section in chosen_modes(cfg):
        MODE_REGISTRY.get(section)(cfg, runtime)
