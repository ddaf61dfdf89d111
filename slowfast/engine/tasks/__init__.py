"""Tasks by name (``TASK``); importing this package registers them."""

from slowfast.config.node import CfgNode
from slowfast.engine.tasks import fewshot, recognition  # noqa: F401
from slowfast.engine.tasks.base import TASK_REGISTRY, Task
from slowfast.utils.runtime import Runtime


def build_task(cfg: CfgNode, runtime: Runtime) -> Task:
    """The task that the configuration names; empty means recognition."""
    return TASK_REGISTRY.get(cfg.TASK or "recognition")(cfg, runtime)
