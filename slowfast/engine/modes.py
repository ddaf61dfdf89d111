"""What a run can do besides training and testing, as other rooms register it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from slowfast.config.node import CfgNode
from slowfast.utils.registry import Registry
from slowfast.utils.runtime import Runtime


@dataclass(frozen=True)
class Mode:
    """``run`` does it where ``is_wanted`` says that the configuration asks for it.

    ``check`` raises UserError before anything is computed for what ``run`` would refuse later.
    """

    is_wanted: Callable[[CfgNode], bool]
    run: Callable[[CfgNode, Runtime], object]
    check: Callable[[CfgNode], object] = lambda cfg: None


# They run in this order, after training and test, on all processes.
MODE_REGISTRY: Registry[Mode] = Registry("mode")


def wanted_modes(cfg: CfgNode) -> list[Mode]:
    """The modes that the configuration asks for."""
    return [mode for mode in map(MODE_REGISTRY.get, MODE_REGISTRY) if mode.is_wanted(cfg)]


def check_modes(cfg: CfgNode) -> None:
    """UserError if one of the modes that the configuration asks for cannot run."""
    for mode in wanted_modes(cfg):
        mode.check(cfg)


def run_modes(cfg: CfgNode, runtime: Runtime) -> None:
    """All modes that the configuration asks for."""
    for mode in wanted_modes(cfg):
        mode.run(cfg, runtime)
