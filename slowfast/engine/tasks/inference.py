"""What the network of a task says of videos that stand in no list: one class per kind of task.

They use the parts of a test: its reader of clips, and the task's module, whose data are the class
names of the checkpoint alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.datasets.batch import Batch
from slowfast.datasets.build import dataset_class
from slowfast.datasets.clip_reader import ClipReader, Views, configured_views
from slowfast.datasets.episodes import build_clip_reader
from slowfast.datasets.lists import ItemList
from slowfast.engine.tasks.base import Inputs, TaskInference, TaskModule
from slowfast.metrics.views import ClassProbabilities, class_probabilities, merge_views
from slowfast.models.base import classified_features
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import Runtime
from slowfast.video.device import Normalizer

logger = get_logger(__name__)


@dataclass(frozen=True)
class KnownClasses:
    """Data of a task of which nothing but the class names is known."""

    names: list[str]

    def class_names(self, split: str) -> list[str]:
        """The names, whatever the split."""
        return self.names


class RecognitionInference(TaskInference):
    """All views of the recipe's test of a video, as the test reads and merges them."""

    def __init__(
        self, cfg: CfgNode, runtime: Runtime, module_class: type[TaskModule], names: Sequence[str]
    ):
        self.cfg = cfg
        self.classes = list(names) or [str(label) for label in range(cfg.MODEL.NUM_CLASSES)]
        if len(self.classes) != cfg.MODEL.NUM_CLASSES:
            raise UserError(
                f"the network has {cfg.MODEL.NUM_CLASSES} classes, there are {len(self.classes)} "
                "names",
                "give the names that it was trained with, in their order",
                "classes",
            )
        self.module = module_class(cfg, runtime, KnownClasses(self.classes))
        counts = cfg.TEST.NUM_TEMPORAL_CLIPS  # of several tests the last one counts
        views = Views(counts[-1], cfg.TEST.NUM_SPATIAL_CROPS) if counts else configured_views(cfg)
        self.kind = self._probabilities(torch.ones(1, 2), 1).kind
        no_list = ItemList([], "", self.classes)
        self.reader: ClipReader = dataset_class(cfg, "test")(cfg, "test", views, no_list).reader

    def clips(self, sample: torch.Tensor) -> torch.Tensor:
        return sample

    def prepare(self, video: torch.Tensor) -> Inputs:
        labels = torch.zeros(len(video), dtype=torch.long)
        batch = Batch(video, labels, torch.arange(len(video)), [""] * len(video))
        return self.module.prepare(batch, "test")

    def probabilities(self, model: nn.Module, inputs: Inputs) -> torch.Tensor:
        scores = self.module.predict(model, inputs)
        merged = merge_views(scores.float().cpu(), self.cfg.DATA.ENSEMBLE_METHOD)
        return self._probabilities(merged, scores.shape[1]).values

    def _probabilities(self, merged: torch.Tensor, views: int) -> ClassProbabilities:
        method, activation = self.cfg.DATA.ENSEMBLE_METHOD, self.cfg.MODEL.HEAD_ACT
        return class_probabilities(merged, views, method, activation)

    def answer(self, model: nn.Module, video: torch.Tensor) -> torch.Tensor:
        scores = self.module.activate(model(video))
        return class_probabilities(scores, 1, "sum", self.cfg.MODEL.HEAD_ACT).values

    def normalizer(self) -> Normalizer:
        return self.module.normalizer("test")

    def features(self, model: nn.Module, inputs: Inputs) -> torch.Tensor:
        parts = inputs.video.split(inputs.views_at_once or len(inputs.video))
        return _mean_of_views([model.forward_features(part) for part in parts], inputs)

    def answers_and_features(
        self, model: nn.Module, inputs: Inputs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with classified_features(model) as parts:
            probabilities = self.probabilities(model, inputs)
        if sum(map(len, parts)) == len(inputs.video):
            return probabilities, _mean_of_views(parts, inputs)
        return probabilities, self.features(model, inputs)  # its forward pass is one of its own


def _mean_of_views(parts: Sequence[torch.Tensor], inputs: Inputs) -> torch.Tensor:
    """Features of all views, in parts -> their mean for each video, float32 ``B D``."""
    features = torch.cat(list(parts)).float()
    if features.ndim == 3:  # of each frame, or of the parts of a larger clip
        features = features.mean(1)
    return features.unflatten(0, (inputs.size, -1)).mean(1)


class FewShotInference(TaskInference):
    """Compares one clip of a video with support clips of any classes."""

    takes_support = True
    output = "embeddings"

    def __init__(
        self, cfg: CfgNode, runtime: Runtime, module_class: type[TaskModule], names: Sequence[str]
    ):
        self.cfg = cfg
        self.classes: list[str] = []  # those of the support clips
        self.module = module_class(cfg, runtime, KnownClasses(list(names)))
        self.reader = build_clip_reader(cfg, "test")
        self._device = runtime.device
        self._support: torch.Tensor | None = None
        options = cfg.FEWSHOT
        queries = options.QUERY_TEST * (options.WAY if options.QUERY_CLASSES == "all" else 1)
        # STAF treats a single query differently from several, and is tested with so many.
        self._copies = min(queries, 2)

    def clips(self, sample: torch.Tensor) -> torch.Tensor:
        return sample[None]

    def prepare(self, video: torch.Tensor) -> Inputs:
        video = self.module.normalizer(video.flatten(0, 1), self._device)
        return Inputs(video, torch.zeros(len(video), dtype=torch.long), len(video))

    def set_support(self, model: nn.Module, support: Mapping[str, Sequence[Inputs]]) -> None:
        counts = {name: len(clips) for name, clips in support.items()}
        if len(counts) < 2 or not all(counts.values()):
            raise UserError(
                f"support clips of {len(counts)} classes, {min(counts.values(), default=0)} of one",
                'give at least one clip of at least two classes: {"name": [clip, …], …}',
                "support",
            )
        shots = min(counts.values())
        if shots < max(counts.values()):
            logger.warning("support clips: the first %d of each class are used", shots)
        rows = [
            torch.cat([model.embed(clip.video) for clip in clips[:shots]])
            for clips in support.values()
        ]
        self._support, self.classes = torch.stack(rows), list(counts)

    def probabilities(self, model: nn.Module, inputs: Inputs) -> torch.Tensor:
        if self._support is None:
            raise UserError(
                "a few-shot network compares videos with clips of the classes, and there are none",
                'give support={"name": [clip, …], …}',
                "support",
            )
        queries = model.embed(inputs.video)
        support = self._support.expand(len(queries), *self._support.shape)
        copies = queries[:, None].expand(-1, self._copies, *queries.shape[1:])
        logits = model.head(support, copies).logits[:, 0].float().cpu()
        return class_probabilities(logits, 1, "sum", "none").values

    def answers_and_features(
        self, model: nn.Module, inputs: Inputs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.features(model, inputs)
        if self._support is None:  # there are no classes
            return features.new_zeros(len(features), 0).cpu(), features
        return self.probabilities(model, inputs), features

    def text_features(self, model: nn.Module, texts: Sequence[str]) -> torch.Tensor:
        return model.base.text_features(texts)

    def answer(self, model: nn.Module, video: torch.Tensor) -> torch.Tensor:
        return model.embed(video)

    def normalizer(self) -> Normalizer:
        return self.module.normalizer

    def features(self, model: nn.Module, inputs: Inputs) -> torch.Tensor:
        features = model.embed(inputs.video).float()
        if features.ndim == 2:
            return features
        # Feature maps are C L, frames T D: the mean over positions or frames.
        return features.mean(-1 if model.embedding_type == "maps" else 1)
