"""What a run does, one after the other: training, testing, and what other rooms register."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slowfast.config.node import CfgNode
from slowfast.engine.tasks.base import Task
from slowfast.engine.test import test
from slowfast.engine.train import train
from slowfast.utils.registry import Registry
from slowfast.utils.runtime import Runtime

Mode = Callable[[CfgNode, Runtime, Task], Any]
# The section whose key ENABLE turns a mode on -> the mode, in the order in which they run.
MODE_REGISTRY: Registry[Mode] = Registry("mode")
MODE_REGISTRY.register("TRAIN")(train)
MODE_REGISTRY.register("TEST")(test)


def run_modes(cfg: CfgNode, runtime: Runtime, task: Task) -> None:
    """All modes that the configuration turns on."""
    for section in MODE_REGISTRY:
        if cfg[section].ENABLE:
            MODE_REGISTRY.get(section)(cfg, runtime, task)
