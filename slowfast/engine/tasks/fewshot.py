"""Few-shot recognition: every batch is an episode with classes that were never trained on."""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from slowfast.config.node import CfgNode
from slowfast.datasets.batch import Batch
from slowfast.datasets.embedded_episodes import EmbeddedEpisodes
from slowfast.datasets.episodes import EpisodeDataset, FewShotClips, collate_episodes, episode_lines
from slowfast.datasets.fewshot_lists import (
    SPLITS,
    check_disjoint,
    class_names,
    list_file,
    read_clips,
)
from slowfast.datasets.lists import ItemList
from slowfast.datasets.loader import construct_loader
from slowfast.engine.feature_cache import open_cache
from slowfast.engine.precision import build_autocast
from slowfast.engine.sharding import unwrap
from slowfast.engine.tasks.base import TASK_REGISTRY, LossOutput, Task, TestRun
from slowfast.metrics.episodes import EpisodeEvaluator
from slowfast.metrics.evaluators import EvalResult
from slowfast.models.base import MODEL_REGISTRY
from slowfast.models.fewshot import Episode, build_fewshot
from slowfast.utils.files import write_atomic, write_text_atomic
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import Runtime
from slowfast.video.device import build_normalizer

logger = get_logger(__name__)

_EMBEDDED_PER_BATCH = 100  # episodes on cached embeddings


class FewShotData:
    """Clips of classes, and the episodes that are drawn from them."""

    def __init__(self, cfg: CfgNode, runtime: Runtime):
        self.cfg, self.runtime = cfg, runtime
        self.clips = functools.cache(self._read_clips)

    def class_names(self, split: str) -> list[str]:
        """Training classes are empty where there is no training list and nothing is trained."""
        file = list_file(self.cfg, self._list_of(split))
        if split == "train" and not (self.cfg.TRAIN.ENABLE or file.is_file()):
            return []
        return class_names(file)

    def _list_of(self, split: str) -> str:
        """The list that serves a split: the test list may choose the best weights, as published."""
        return "test" if split == "val" and self.cfg.FEWSHOT.SELECT_ON == "test" else split

    def _read_clips(self, split: str) -> FewShotClips:
        """The clips of a split."""
        return FewShotClips(self.cfg, split, self._list_of(split))

    def episodes(self, split: str) -> EpisodeDataset:
        """The episodes of a split."""
        options = self.cfg.FEWSHOT
        counts = {
            "train": options.TRAIN_TASKS,
            "val": options.VAL_TASKS,
            "test": options.TEST_TASKS,
        }
        return EpisodeDataset(self.cfg, self.clips(split), counts[split])

    def check(self) -> None:
        used = ["train", "val"] if self.cfg.TRAIN.ENABLE else []
        used += ["test"] if self.cfg.TEST.ENABLE else []
        files = {split: list_file(self.cfg, split) for split in SPLITS}
        check_disjoint({s: f for s, f in files.items() if f.is_file() or s in used})
        for split in used:
            self.episodes(split)

    def protocol(self, split: str) -> str:
        """How episodes are made, in words for every result."""
        options = self.cfg.FEWSHOT
        count = options.QUERY if split == "train" else options.QUERY_TEST
        whose = "of every class" if options.QUERY_CLASSES == "all" else "of one class"
        text = f"{options.WAY}-way {options.SHOT}-shot, {count} queries {whose}"
        if split != "train":
            text += ", frames drawn at random" if options.TEST_JITTER else ""
            text += ", selected on test" if options.SELECT_ON == "test" else ""
        return text

    def loader(self, split: str) -> DataLoader:
        return construct_loader(
            self.cfg, split, self.runtime, self.episodes(split), 1, collate_episodes
        )


@dataclass
class EpisodeInputs:
    """An episode, or several on embeddings, on the device.

    ``video``: clips ``K*S+Q 3 T H W``, or ``features``: ``N K*S+Q …``; ``labels`` and
    ``global_labels``: ``N Q``.
    """

    video: torch.Tensor | None
    features: torch.Tensor | None
    way: int
    labels: torch.Tensor
    global_labels: torch.Tensor

    @property
    def size(self) -> int:
        return self.labels.numel()


class FewShotModule:
    """Episodes -> logits of the queries."""

    def __init__(self, cfg: CfgNode, runtime: Runtime, data: FewShotData):
        self.cfg, self.runtime, self.data = cfg, runtime, data
        expected = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME).spec.input_format(cfg)
        self.normalizer = build_normalizer(cfg, False, expected)

    def build_model(self) -> nn.Module:
        classes = len(self.data.class_names("train"))
        return build_fewshot(self.cfg, max(classes, 1), self.runtime.device)

    def match_classes(self, checkpoint_names: Sequence[str]) -> None:
        """Warn of test classes that the weights were trained on."""
        leaked = sorted(set(checkpoint_names) & set(self.data.class_names("test")))
        if leaked:
            logger.warning(
                "the weights were trained on %d of the test classes, e.g. %r: this is not a "
                "few-shot test",
                len(leaked),
                leaked[0],
            )

    def begin(self, model: nn.Module, split: str) -> None:
        pass

    def prepare(self, batch: Batch, split: str, step: int = 0) -> EpisodeInputs:
        device, episode = self.runtime.device, batch.episode
        video = None if batch.video is None else self.normalizer(batch.video, device)
        features = None if episode.features is None else episode.features.to(device)
        labels, global_labels = batch.label.to(device), episode.global_label.to(device)
        return EpisodeInputs(video, features, episode.way, labels, global_labels)

    def loss(self, model: nn.Module, inputs: EpisodeInputs) -> LossOutput:
        labels = inputs.labels[0]
        logits, losses = model(Episode(inputs.video, inputs.way, labels, inputs.global_labels[0]))
        error = 100 * float((logits.detach().argmax(1) != labels).float().mean())
        stats = {name: float(value.detach()) for name, value in losses.items()}
        return LossOutput(sum(losses.values()), inputs.size, stats | {"top1_err": error})

    def predict(self, model: nn.Module, inputs: EpisodeInputs) -> torch.Tensor:
        """Scores ``N Q K``."""
        if inputs.features is None:
            episode = Episode(inputs.video, inputs.way, inputs.labels[0], inputs.global_labels[0])
            return model(episode)[0][None]
        count = inputs.labels.shape[1]
        support = inputs.features[:, :-count].unflatten(1, (inputs.way, -1))
        queries = inputs.features[:, -count:]
        return unwrap(model).head(support, queries, inputs.labels, inputs.labels)[0]

    def picture(self, inputs: EpisodeInputs, split: str) -> torch.Tensor:
        return self.normalizer.picture(inputs.video)

    def embed(self, model: nn.Module, video: torch.Tensor) -> torch.Tensor:
        """uint8 clips ``B 3 T H W`` -> their embeddings."""
        with torch.inference_mode(), build_autocast(self.cfg, self.runtime)():
            return unwrap(model).embed(self.normalizer(video, self.runtime.device))


class FewShotReport:
    """Accuracy over episodes with its interval, and per class."""

    def __init__(self, cfg: CfgNode, data: FewShotData):
        self.cfg, self.data = cfg, data

    def evaluator(self, split: str) -> EpisodeEvaluator:
        return EpisodeEvaluator()

    def describe(
        self, result: EvalResult, unreadable: int, total: int
    ) -> tuple[str, dict[str, Any]]:
        interval = result.metrics["interval"]
        text = f"{result.score:.2f} ± {interval:.2f} % over {result.items} episodes"
        entries = {
            "top1_acc": f"{result.score:.2f}",
            "interval": f"{interval:.2f}",
            "episodes": result.items,
            "protocol": self.data.protocol("test"),
        }
        return text, entries

    def save(self, test: TestRun, evaluator: EpisodeEvaluator) -> None:
        """``episodes.csv`` (what tools/compare_runs.py reads) and ``classes.csv``."""
        folder, accuracy = Path(self.cfg.OUTPUT_DIR), evaluator.accuracy
        rows = [[number, f"{accuracy[number]:.4f}"] for number in sorted(accuracy)]
        _write_csv(folder / "episodes.csv", ["episode", "accuracy"], rows)
        names = self.data.class_names("test")
        per_class = [
            [names[label], count, f"{100 * correct / count:.2f}"]
            for label, (correct, count) in sorted(evaluator.by_class.items())
        ]
        _write_csv(folder / "classes.csv", ["class", "queries", "accuracy"], per_class)


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    def write(temporary: str) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])

    write_atomic(path, write)


@TASK_REGISTRY.register("fewshot")
class FewShotTask(Task):
    """Few-shot recognition; see :class:`slowfast.engine.tasks.base.Task`."""

    data_class = FewShotData
    module_class = FewShotModule
    report_class = FewShotReport
    divides_batches = False

    def tests(self, model: nn.Module) -> list[TestRun]:
        """One test; with FEWSHOT.CACHE on embeddings that are computed once."""
        options, episodes = self.cfg.FEWSHOT, self.data.episodes("test")
        if options.EPISODES_FILE and self.runtime.is_main:
            lines = episode_lines(episodes.sampler, episodes.clips, len(episodes))
            text = "".join(f"{line}\n" for line in lines)
            write_text_atomic(Path(self.cfg.OUTPUT_DIR) / options.EPISODES_FILE, text)
        loader = self.data.loader("test")
        if options.CACHE:
            model.eval()
            embed = functools.partial(self.module.embed, model)
            cache = open_cache(self.cfg, model, episodes.clips, embed)
            dataset = EmbeddedEpisodes(episodes, cache)
            loader = construct_loader(
                self.cfg, "test", self.runtime, dataset, _EMBEDDED_PER_BATCH, collate_episodes
            )
        return [TestRun(self.data.protocol("test"), loader)]

    @classmethod
    def read_lists(cls, cfg: CfgNode, splits: Sequence[str]) -> dict[str, ItemList]:
        return {split: read_clips(cfg, split) for split in splits}

    @classmethod
    def chance_level(cls, cfg: CfgNode) -> float:
        return 100 / cfg.FEWSHOT.WAY
