"""What the train and test loops ask of a task; they know nothing else about it."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.data import DataLoader

from slowfast.engine.step import LossOutput
from slowfast.utils.registry import Registry

Batch = dict[str, Any]
TASK_REGISTRY: Registry[type[Task]] = Registry("task", "TASK")


class Evaluator(Protocol):
    """Collects the results of one pass over a loader."""

    def add(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        """Evaluate one batch; gives its figures."""
        ...

    def merge_ranks(self) -> None:
        """Take the results of all processes together, each item once."""
        ...

    def stats(self) -> dict[str, Any]:
        """Figures over everything (of one process before :meth:`merge_ranks`)."""
        ...

    def summary(self) -> tuple[str, dict[str, Any]]:
        """The result as a line for people, and as entries of the JSON line of a test."""
        ...


class Task(Protocol):
    """A kind of problem: what a batch is, how the loss arises, what is evaluated."""

    class_names: list[str]

    def check_data(self) -> None:
        """Read all lists that will be needed, before anything is computed; UserError."""
        ...

    def build_model(self) -> nn.Module:
        """The network with its initial weights, on the device."""
        ...

    def loader(self, split: str) -> DataLoader:
        """The loader of ``train``, ``val`` or ``test``."""
        ...

    def to_device(self, batch: Batch, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(input of the network, labels) of a batch, on the device."""
        ...

    def training_input(self, batch: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(input, targets) of a training batch as the network sees them, mixed if they are."""
        ...

    def picture(self, video: torch.Tensor, split: str) -> torch.Tensor:
        """Input of the network ``B 3 T H W`` -> uint8 RGB ``B T H W 3``, to be looked at."""
        ...

    def captions(self, batch: Batch, rows: int, targets: torch.Tensor) -> list[str]:
        """What to write above each of the ``rows`` pictures of a batch."""
        ...

    def accept_class_names(self, checkpoint_names: list[str]) -> None:
        """Compare the data's classes with a checkpoint's; UserError if they do not fit."""
        ...

    def loss(self, model: nn.Module, batch: Batch, step: int) -> LossOutput:
        """The loss of a training batch at a global step."""
        ...

    def validator(self) -> Evaluator:
        """A fresh evaluator for validation; its figures hold ``score``, higher is better."""
        ...

    def testers(self) -> list[tuple[str, DataLoader, Evaluator]]:
        """The tests to run: (name, loader, evaluator)."""
        ...

    def save_results(self, name: str, evaluator: Evaluator) -> None:
        """Write what a person or a script wants to have of a finished test."""
        ...
