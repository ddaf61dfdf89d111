"""Batch: what a loader gives, and loops, tasks and evaluators take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from slowfast.video.device_augment import ClipsToAugment


@dataclass(frozen=True)
class BadItem:
    """A video that could not be read, in place of its sample."""

    index: int
    path: str
    line: int
    cause: str


@dataclass
class EpisodeInfo:
    """What a batch of few-shot episodes holds besides clips and labels.

    ``numbers``: the episodes, N of them; ``way``: their classes K; ``global_label`` ``N Q``: the
    label of each query within its split; ``features`` ``N K*S+Q …``: embeddings of the clips
    (support by class, then queries) where they come from a cache and no clip was decoded.
    """

    numbers: list[int]
    way: int
    global_label: torch.Tensor
    features: torch.Tensor | None = None


@dataclass
class Batch:
    """Samples that pass through the network together.

    - ``video``: uint8 RGB, ``B C T H W`` (test: ``videos views C T H W``; an episode:
      ``K*S+Q C T H W``), None where nothing could be read; with AUG.DEVICE ``network`` the whole
      frames of training clips, which become that when they move to the device;
    - ``label``: ``B`` int64; with DATA.MULTI_LABEL ``B classes`` float, 1 for each label, else 0
      (episodes: ``N Q``, classes within the episode);
    - ``index``: ``B``, numbers of the samples in their list; ``path``: one for each clip;
    - ``bad``: videos that could not be read;
    - ``boxes``: erasing boxes ``B count 5`` (training);
    - ``extra``: fields that a data set adds to its samples, by ``default_collate``.
    """

    video: torch.Tensor | ClipsToAugment | None = None
    label: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    index: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    path: list[str] = field(default_factory=list)
    bad: list[BadItem] = field(default_factory=list)
    boxes: torch.Tensor | None = None
    episode: EpisodeInfo | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Labelled clips (in episodes: queries): what the batch counts in a mean; 0 if nothing
        could be read."""
        return len(self.label) if self.label.is_floating_point() else self.label.numel()

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The same batch with its tensors on ``device``."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory (called by the loader)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Any) -> Batch:
        return replace(
            self, **{f.name: _mapped(getattr(self, f.name), function) for f in fields(self)}
        )


def _mapped(value: Any, function: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, ClipsToAugment):
        return value.map(function)
    if isinstance(value, EpisodeInfo):
        return EpisodeInfo(
            **{f.name: _mapped(getattr(value, f.name), function) for f in fields(value)}
        )
    if isinstance(value, Mapping):
        return {name: _mapped(item, function) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(item, function) for item in value)
    return value
