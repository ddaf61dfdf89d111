"""Tasks by name (``TASK``); importing this package registers them."""

from slowfast.config.node import CfgNode
from slowfast.datasets.lists import ItemList
from slowfast.engine.tasks import fewshot  # noqa: F401
from slowfast.engine.tasks.base import TASK_REGISTRY, Task
from slowfast.engine.tasks.multi_label import MultiLabelTask
from slowfast.engine.tasks.recognition import RecognitionTask
from slowfast.utils.runtime import Runtime

# Task with one label a video -> the same task with any number of them.
_MULTI_LABEL = {RecognitionTask: MultiLabelTask}


def task_class(cfg: CfgNode) -> type[Task]:
    """The class that TASK names (empty means recognition), for the labels that videos have."""
    named = TASK_REGISTRY.get(cfg.TASK or "recognition")
    return _MULTI_LABEL.get(named, named) if cfg.DATA.MULTI_LABEL else named


def build_task(cfg: CfgNode, runtime: Runtime) -> Task:
    """The task that the configuration names; empty means recognition."""
    return task_class(cfg)(cfg, runtime)


def read_configured_lists(cfg: CfgNode) -> dict[str, ItemList]:
    """The lists of all splits that the configuration uses, unchecked, by the split's name."""
    splits = ["train", "val"] if cfg.TRAIN.ENABLE else []
    splits += ["test"] if cfg.TEST.ENABLE else []
    return task_class(cfg).read_lists(cfg, splits)


def takes_several_labels(cfg: CfgNode) -> bool:
    """Whether the task can be one of videos with any number of labels."""
    return TASK_REGISTRY.get(cfg.TASK or "recognition") in (*_MULTI_LABEL, *_MULTI_LABEL.values())
