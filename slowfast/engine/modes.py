"""What a run can do besides training and testing, as other rooms register it."""

from __future__ import annotations

from collections.abc import Callable

from slowfast.config.node import CfgNode
from slowfast.utils.registry import Registry
from slowfast.utils.runtime import Runtime

Mode = Callable[[CfgNode, Runtime], object]
# A section -> its mode; in this order, after the test. The section's key ENABLE turns it on, or the
# mode's own method ``is_chosen(cfg)``.
MODE_REGISTRY: Registry[Mode] = Registry("mode")


def chosen_modes(cfg: CfgNode) -> list[str]:
    """Sections of the modes that the configuration turns on."""
    return [section for section in MODE_REGISTRY if _is_chosen(cfg, section)]


def _is_chosen(cfg: CfgNode, section: str) -> bool:
    mode = MODE_REGISTRY.get(section)
    return mode.is_chosen(cfg) if hasattr(mode, "is_chosen") else cfg[section].ENABLE


def run_modes(cfg: CfgNode, runtime: Runtime) -> None:
    """All modes that the configuration turns on."""
    for section in chosen_modes(cfg):
        MODE_REGISTRY.get(section)(cfg, runtime)
