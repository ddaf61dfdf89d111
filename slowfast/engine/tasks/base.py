"""The contracts of a task: what the data are, what the network computes, what is reported.

Loops know these members and nothing else of a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.datasets.batch import Batch
from slowfast.datasets.clip_reader import ClipReader
from slowfast.datasets.lists import ItemList
from slowfast.datasets.loader import Loader
from slowfast.metrics.evaluators import EvalResult, Evaluator
from slowfast.utils.errors import UserError
from slowfast.utils.registry import Registry
from slowfast.utils.runtime import Runtime
from slowfast.video.device import Normalizer

TASK_REGISTRY: Registry[type[Task]] = Registry("task", "TASK")


@dataclass
class LossOutput:
    """The mean ``loss`` of a batch over its ``size`` labels, and figures for the log.

    Figures are best scalars on the device, without gradient: the host reads them a step later. A
    ``float()`` of one would stop the device at every step.
    """

    loss: torch.Tensor
    size: int
    stats: dict[str, torch.Tensor | float] = field(default_factory=dict)


@dataclass
class Inputs:
    """What a network takes, on the device: the batch after normalisation and mixing.

    ``video``: float ``B 3 T H W`` (a test: all views of all videos, an episode: all its clips);
    ``targets``: labels ``B`` or mixed targets ``B classes``; ``size``: labels of the batch;
    ``views_at_once``: rows of ``video`` per forward pass, None for all of them.
    """

    video: torch.Tensor
    targets: torch.Tensor
    size: int
    views_at_once: int | None = None


@dataclass(frozen=True)
class TestRun:
    """One of the tests of a task: its name for people, its data, and the short form of its name
    (``1x3``) that the folder of its results has."""

    __test__ = False  # pytest must not collect it

    name: str
    loader: Loader
    tag: str = "test"


class TaskData(Protocol):
    """What the data of a task are. Getters have no side effects."""

    def class_names(self, split: str) -> list[str]:
        """Names in label order of the list of a split, empty if unknown."""
        ...

    def match_classes(self, checkpoint_names: Sequence[str]) -> None:
        """Bring the labels of the test in line with the classes of the weights that are tested
        (empty: unknown), before its loader is made; UserError if they have nothing in common."""
        ...

    def check(self) -> None:
        """Read all lists that will be needed, before anything is computed; UserError."""
        ...

    def loader(self, split: str) -> Loader:
        """The loader of ``train``, ``val`` or ``test``, of batches of type :class:`Batch`."""
        ...


class TaskModule(Protocol):
    """What the network of a task computes."""

    def build_model(self) -> nn.Module:
        """The network on the device, with random weights."""
        ...

    def begin(self, model: nn.Module, split: str) -> None:
        """Before a training epoch or an evaluation: compute what does not depend on clips."""
        ...

    def prepare(self, batch: Batch, split: str, step: int = 0) -> Any:
        """Batch -> what :meth:`loss` and :meth:`predict` take, on the device; outside autocast.

        ``step`` is the number of the optimizer step, which seeds mixing.
        """
        ...

    def loss(self, model: nn.Module, inputs: Any) -> LossOutput:
        """The loss of a training batch; inside autocast."""
        ...

    def predict(self, model: nn.Module, inputs: Any) -> torch.Tensor:
        """Scores as the evaluator takes them, e.g. ``videos views classes``; inside autocast."""
        ...

    def picture(self, inputs: Any, split: str) -> torch.Tensor:
        """Inputs -> uint8 RGB ``B T H W 3``, to be looked at."""
        ...


class TaskReport(Protocol):
    """What is measured and written."""

    def evaluator(self, split: str) -> Evaluator:
        """A new evaluator for ``val`` or ``test``."""
        ...

    def figures(self, result: EvalResult, unreadable: int, total: int) -> dict[str, float]:
        """The numbers of a test by name; accuracies in percent.

        ``unreadable`` of the ``total`` items of the list could not be read.
        """
        ...

    def describe(
        self, result: EvalResult, unreadable: int, total: int
    ) -> tuple[str, dict[str, Any]]:
        """The result of a test as a line for people, and as entries of the JSON line."""
        ...

    def write(self, test: TestRun, evaluator: Evaluator, folder: Path) -> dict[str, Any]:
        """Write the files of a finished test into an empty folder.

        Gives further entries of its ``test.json``: ``classes``, their names; ``figures``, which
        are added to :meth:`figures`.
        """
        ...


class TaskInference:
    """What the network of a task says of videos that stand in no list.

    Built from (configuration, runtime, the task's ``module_class``, class names of the checkpoint);
    ``classes`` are the names of the answers, ``reader`` reads videos as a test does, ``module`` is
    the task's, ``kind`` says what its numbers are (:mod:`slowfast.metrics.views`). Methods that run
    the network are called inside autocast.
    """

    takes_support: ClassVar[bool] = False
    kind: str = "probability"
    # What an exported network gives for each view.
    output: ClassVar[str] = "probabilities"
    classes: list[str]
    reader: ClipReader
    module: TaskModule

    def __init__(
        self, cfg: CfgNode, runtime: Runtime, module_class: type[TaskModule], names: Sequence[str]
    ):
        raise UserError(
            f"the task {cfg.TASK!r} says nothing of single videos",
            "give its class inference_class a class of its own (slowfast.engine.tasks.inference)",
            "TASK",
        )

    def clips(self, sample: torch.Tensor) -> torch.Tensor:
        """What :attr:`reader` gives as ``video`` -> ``V 3 T H W``, the views of a video."""
        raise NotImplementedError

    def prepare(self, video: torch.Tensor) -> Inputs:
        """uint8 ``B V 3 T H W`` -> what the network takes, ``video`` ``B*V 3 T H W``."""
        raise NotImplementedError

    def set_support(self, model: nn.Module, support: Mapping[str, Sequence[Inputs]]) -> None:
        """The clips of each class that videos are compared with, if it ``takes_support``."""
        raise NotImplementedError

    def probabilities(self, model: nn.Module, inputs: Inputs) -> torch.Tensor:
        """Of each video, on the CPU: ``B classes``."""
        raise NotImplementedError

    def answer(self, model: nn.Module, video: torch.Tensor) -> torch.Tensor:
        """:attr:`output` of single views, normalised ``B 3 T H W``: ``B …``. It is traced when a
        network is exported, so that it must not depend on values or on B."""
        raise NotImplementedError

    def normalizer(self) -> Normalizer:
        """What brings the clips of a test into the form that the network expects."""
        raise NotImplementedError

    def features(self, model: nn.Module, inputs: Inputs) -> torch.Tensor:
        """The mean of the features of the views of each video: float32 ``B D``."""
        raise NotImplementedError

    def answers_and_features(
        self, model: nn.Module, inputs: Inputs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """:meth:`probabilities` and :meth:`features`; one pass where the network allows it."""
        return self.probabilities(model, inputs), self.features(model, inputs)

    def text_features(self, model: nn.Module, texts: Sequence[str]) -> torch.Tensor:
        """Texts in the space of :meth:`features`, ``N D`` of length one. UserError if the network
        has no text tower."""
        return model.text_features(texts)


class Task:
    """A kind of problem. A subclass chooses the classes of its three parts.

    Each part is built from (configuration, runtime); module and report are also given the data.
    """

    data_class: ClassVar[type[TaskData]]
    module_class: ClassVar[type[TaskModule]]
    report_class: ClassVar[type[TaskReport]]
    # A subclass of slowfast.engine.train.Trainer that trains this task; None: Trainer itself.
    trainer_class: ClassVar[Any] = None
    # What the network says of videos that stand in no list.
    inference_class: ClassVar[type[TaskInference]] = TaskInference
    # Whether the videos of a batch are divided among the processes of a machine.
    divides_batches: ClassVar[bool] = True

    def __init__(self, cfg: CfgNode, runtime: Runtime):
        self.cfg, self.runtime = cfg, runtime
        self.data = self.data_class(cfg, runtime)
        self.module = self.module_class(cfg, runtime, self.data)
        self.report = self.report_class(cfg, self.data)

    def tests(self, model: nn.Module) -> Iterable[TestRun]:
        """The tests to run with the weights of ``model``."""
        return [TestRun("test", self.data.loader("test"))]

    @classmethod
    def fit_classes(cls, cfg: CfgNode, checkpoint_names: Sequence[str]) -> CfgNode:
        """The configuration of a test without training, for weights with these classes."""
        return cfg

    @classmethod
    def inference(cls, cfg: CfgNode, runtime: Runtime, names: Sequence[str]) -> TaskInference:
        """What answers for single videos; ``names``: the classes of the checkpoint."""
        return cls.inference_class(cfg, runtime, cls.module_class, names)

    @classmethod
    def read_lists(cls, cfg: CfgNode, splits: Sequence[str]) -> dict[str, ItemList]:
        """The lists of ``splits`` as they stand, unchecked, without the data sets."""
        raise NotImplementedError

    @classmethod
    def chance_level(cls, cfg: CfgNode) -> float:
        """Accuracy of guessing, in percent."""
        return 100 / cfg.MODEL.NUM_CLASSES
