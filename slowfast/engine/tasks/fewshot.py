"""Few-shot recognition: every batch is an episode of classes that were not trained on."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.validate import register_rule
from slowfast.datasets.batch import Batch
from slowfast.datasets.embedded_episodes import EmbeddedEpisodes
from slowfast.datasets.episodes import (
    DecodedEpisodes,
    EpisodePlan,
    EpisodeSource,
    build_clip_reader,
    collate_episodes,
)
from slowfast.datasets.fewshot_lists import (
    SPLITS,
    check_disjoint,
    class_names,
    list_file,
    read_clips,
)
from slowfast.datasets.lists import ItemList
from slowfast.datasets.loader import Loader, construct_loader
from slowfast.engine.feature_cache import open_cache
from slowfast.engine.network import arrange
from slowfast.engine.precision import build_autocast
from slowfast.engine.result_files import CLASSES, EPISODES, episode_class_rows, write_csv
from slowfast.engine.sharding import unwrap
from slowfast.engine.tasks.base import TASK_REGISTRY, LossOutput, Task, TestRun
from slowfast.engine.tasks.inference import FewShotInference
from slowfast.metrics.episodes import EpisodeEvaluator
from slowfast.metrics.evaluators import EvalResult
from slowfast.models.base import MODEL_REGISTRY
from slowfast.models.fewshot import EpisodeTargets, build_fewshot, split_episode
from slowfast.models.fewshot_heads import FEWSHOT_REGISTRY
from slowfast.utils.errors import Problem
from slowfast.utils.files import write_text_atomic
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import Runtime
from slowfast.video.device import build_normalizer

logger = get_logger(__name__)

NAME = "fewshot"
_EMBEDDED_BATCH_SIZE = 100  # episodes of embeddings that pass through the head together


class FewShotData:
    """Lists of clips, and the episodes that are drawn from them."""

    def __init__(self, cfg: CfgNode, runtime: Runtime):
        self.cfg, self.runtime = cfg, runtime
        self._item_lists: dict[str, ItemList] = {}

    def class_names(self, split: str) -> list[str]:
        """Names in label order; those of training are empty if there is no training list and no
        training."""
        file = list_file(self.cfg, self._list_of(split))
        if split == "train" and not (self.cfg.TRAIN.ENABLE or file.is_file()):
            return []
        return class_names(file)

    def _list_of(self, split: str) -> str:
        """The split whose list is read: as published, the test list may choose the best weights."""
        return "test" if split == "val" and self.cfg.FEWSHOT.SELECT_ON == "test" else split

    def item_list(self, split: str) -> ItemList:
        """The clips of a split; the list is read once."""
        if split not in self._item_lists:
            self._item_lists[split] = read_clips(self.cfg, self._list_of(split))
        return self._item_lists[split]

    def plan(self, split: str) -> EpisodePlan:
        """Which episodes a split has."""
        return EpisodePlan.from_cfg(self.cfg, split, self.item_list(split))

    def check(self) -> None:
        used = ["train", "val"] if self.cfg.TRAIN.ENABLE else []
        used += ["test"] if self.cfg.TEST.ENABLE else []
        files = {split: list_file(self.cfg, split) for split in SPLITS}
        check_disjoint({s: f for s, f in files.items() if f.is_file() or s in used})
        for split in used:
            self.plan(split)

    def match_classes(self, checkpoint_names: Sequence[str]) -> None:
        """Warn of test classes that the weights were trained on."""
        leaked = sorted(set(checkpoint_names) & set(self.class_names("test")))
        if leaked:
            logger.warning(
                "the weights were trained on %d of the test classes, e.g. %r: this is not a "
                "few-shot test",
                len(leaked),
                leaked[0],
            )

    def protocol(self, split: str) -> str:
        """How episodes are made, as a phrase for logs and results."""
        options = self.cfg.FEWSHOT
        count = options.QUERY if split == "train" else options.QUERY_TEST
        classes = "every class" if options.QUERY_CLASSES == "all" else "one class"
        text = f"{options.WAY}-way {options.SHOT}-shot, {count} queries of {classes}"
        if split != "train":
            text += ", frames drawn at random" if options.TEST_JITTER else ""
            text += ", selected on test" if options.SELECT_ON == "test" else ""
        return text

    def loader(self, split: str) -> Loader:
        reader = build_clip_reader(self.cfg, split)
        return self.episode_loader(DecodedEpisodes(self.plan(split), reader), batch_size=1)

    def episode_loader(self, episodes: EpisodeSource, batch_size: int) -> Loader:
        """A loader of ``batch_size`` episodes per batch."""
        split = episodes.plan.split
        return construct_loader(
            self.cfg, split, self.runtime, episodes, batch_size, collate_episodes
        )


@dataclass
class EpisodeInputs:
    """An episode, or N episodes of embeddings, on the device.

    ``video``: float clips ``K*S+Q 3 T H W``, or ``features``: ``N K*S+Q …``; ``way``: K;
    ``targets``: labels of the queries ``N Q``.
    """

    video: torch.Tensor | None
    features: torch.Tensor | None
    way: int
    targets: EpisodeTargets

    @property
    def size(self) -> int:
        """Queries of all episodes."""
        return self.targets.labels.numel()

    @property
    def num_queries(self) -> int:
        """Queries per episode."""
        return self.targets.labels.shape[1]


class FewShotModule:
    """Episodes -> logits of the queries; in training also losses."""

    def __init__(self, cfg: CfgNode, runtime: Runtime, data: FewShotData):
        self.cfg, self.runtime, self.data = cfg, runtime, data
        input_format = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME).spec.input_format(cfg)
        self.normalizer = build_normalizer(cfg, False, input_format)

    def build_model(self) -> nn.Module:
        num_classes = len(self.data.class_names("train"))
        network = build_fewshot(self.cfg, max(num_classes, 1), self.runtime.device)
        return arrange(self.cfg, network)

    def begin(self, model: nn.Module, split: str) -> None:
        """Nothing: all of an episode depends on its clips."""

    def prepare(self, batch: Batch, split: str, step: int = 0) -> EpisodeInputs:
        device, episode = self.runtime.device, batch.episode
        video = None if batch.video is None else self.normalizer(batch.video, device)
        features = None
        if episode.features is not None:
            features = episode.features.to(device, non_blocking=True)
        targets = EpisodeTargets(
            batch.label.to(device, non_blocking=True),
            episode.global_label.to(device, non_blocking=True),
        )
        return EpisodeInputs(video, features, episode.way, targets)

    def loss(self, model: nn.Module, inputs: EpisodeInputs) -> LossOutput:
        """Sum of the losses of the head; figures: each of them, and ``top1_err`` in percent."""
        scores = model(inputs.video, inputs.way, inputs.num_queries, inputs.targets)
        predicted = scores.logits.detach().argmax(-1)
        error = 100 * (predicted != inputs.targets.labels).float().mean().double()
        stats = {name: value.detach() for name, value in scores.losses.items()}
        return LossOutput(sum(scores.losses.values()), inputs.size, stats | {"top1_err": error})

    def predict(self, model: nn.Module, inputs: EpisodeInputs) -> torch.Tensor:
        """Logits ``N Q K``, of clips or of embeddings; no label is needed."""
        if inputs.features is None:
            return model(inputs.video, inputs.way, inputs.num_queries).logits
        head = unwrap(model).head
        return head(*split_episode(inputs.features, inputs.way, inputs.num_queries)).logits

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

    def figures(self, result: EvalResult, unreadable: int, total: int) -> dict[str, float]:
        interval = result.metrics["interval"]
        return {"top1_acc": result.score, "interval": interval, "episodes": result.items}

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

    def write(self, test: TestRun, evaluator: EpisodeEvaluator, folder: Path) -> dict[str, Any]:
        """``episodes.csv``, which tools/compare_runs.py reads, and ``classes.csv``."""
        accuracy, names = evaluator.accuracy, self.data.class_names("test")
        per_episode = ([number, f"{accuracy[number]:.4f}"] for number in sorted(accuracy))
        write_csv(folder / EPISODES, ["episode", "accuracy"], per_episode)
        header = ["label", "name", "queries", "correct", "accuracy"]
        write_csv(folder / CLASSES, header, episode_class_rows(evaluator.by_class, names))
        return {"classes": names, "protocol": self.data.protocol("test")}


@TASK_REGISTRY.register(NAME)
class FewShotTask(Task):
    """Few-shot recognition; see :class:`slowfast.engine.tasks.base.Task`."""

    data_class = FewShotData
    module_class = FewShotModule
    report_class = FewShotReport
    inference_class = FewShotInference
    divides_batches = False

    def tests(self, model: nn.Module) -> list[TestRun]:
        """One test; with FEWSHOT.CACHE of embeddings that are computed once."""
        options, plan = self.cfg.FEWSHOT, self.data.plan("test")
        if options.EPISODES_FILE and self.runtime.is_main:
            text = "".join(f"{line}\n" for line in plan.json_lines())
            write_text_atomic(Path(self.cfg.OUTPUT_DIR) / options.EPISODES_FILE, text)
        loader = self._cached_loader(model, plan) if options.CACHE else self.data.loader("test")
        tag = f"{options.WAY}w{options.SHOT}s"
        return [TestRun(self.data.protocol("test"), loader, tag)]

    def _cached_loader(self, model: nn.Module, plan: EpisodePlan) -> Loader:
        """Episodes of embeddings below FEWSHOT.CACHE, which are computed if they are not there."""
        model.eval()
        embed = functools.partial(self.module.embed, model)
        reader = build_clip_reader(self.cfg, plan.split)
        cache = open_cache(self.cfg, model, plan.item_list, reader, embed)
        episodes = EmbeddedEpisodes(plan, cache.embeddings, cache.unreadable)
        return self.data.episode_loader(episodes, _EMBEDDED_BATCH_SIZE)

    @classmethod
    def read_lists(cls, cfg: CfgNode, splits: Sequence[str]) -> dict[str, ItemList]:
        return {split: read_clips(cfg, split) for split in splits}

    @classmethod
    def chance_level(cls, cfg: CfgNode) -> float:
        return 100 / cfg.FEWSHOT.WAY


@register_rule
def _fewshot_rules(cfg: CfgNode) -> Iterable[Problem]:
    if cfg.TASK != NAME:
        return
    options = cfg.FEWSHOT
    if options.METHOD in FEWSHOT_REGISTRY:
        yield from FEWSHOT_REGISTRY.get(options.METHOD).check(cfg)
    if options.CACHE and options.TEST_JITTER:
        yield Problem(
            "every episode draws other frames of a clip",
            "set FEWSHOT.TEST_JITTER False, or no cache",
            "FEWSHOT.CACHE",
        )
    if cfg.TRAIN.ENABLE and cfg.DATA.BATCH_SAMPLER != "shuffle":
        yield Problem(
            "episodes are drawn by class already",
            "set DATA.BATCH_SAMPLER shuffle",
            "DATA.BATCH_SAMPLER",
        )
    for key in ("MIXUP.ENABLE", "SOLVER.KD", "TEST.METRICS"):
        if cfg.lookup(key):
            yield Problem("has no effect on TASK fewshot", "remove it", key)
    if cfg.TRAIN.ENABLE and cfg.AUG.NUM_SAMPLE != 1:
        yield Problem(
            f"{cfg.AUG.NUM_SAMPLE} copies of a clip cannot be part of an episode",
            "set AUG.NUM_SAMPLE 1",
            "AUG.NUM_SAMPLE",
        )
