"""Tasks by name (``TASK``); importing this package registers them."""

from slowfast.config.node import CfgNode
from slowfast.datasets.lists import ItemList
from slowfast.engine.tasks import fewshot, recognition  # noqa: F401
from slowfast.engine.tasks.base import TASK_REGISTRY, Task
from slowfast.utils.runtime import Runtime


def task_class(cfg: CfgNode) -> type[Task]:
    """The class that TASK names; empty means recognition."""
    return TASK_REGISTRY.get(cfg.TASK or "recognition")


def build_task(cfg: CfgNode, runtime: Runtime) -> Task:
    """The task that the configuration names; empty means recognition."""
    return task_class(cfg)(cfg, runtime)


def read_configured_lists(cfg: CfgNode) -> dict[str, ItemList]:
    """The lists of all splits that the configuration uses, unchecked, by the split's name."""
    splits = ["train", "val"] if cfg.TRAIN.ENABLE else []
    splits += ["test"] if cfg.TEST.ENABLE else []
    return task_class(cfg).read_lists(cfg, splits)
