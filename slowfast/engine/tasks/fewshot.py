"""Few-shot recognition: every batch is a task of its own with classes never seen before."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from slowfast.config.node import CfgNode
from slowfast.datasets.base import BadItem, SampleKey
from slowfast.datasets.episodes import (
    Draw,
    EpisodeDataset,
    FewShotClips,
    collate_task,
    episode_lines,
    lost_task,
)
from slowfast.datasets.fewshot_lists import SPLITS, check_disjoint, class_names, list_file
from slowfast.datasets.loader import construct_loader
from slowfast.engine.feature_cache import FeatureCache, open_cache
from slowfast.engine.sharding import unwrap
from slowfast.engine.step import LossOutput, build_autocast
from slowfast.engine.tasks.base import TASK_REGISTRY, Batch
from slowfast.metrics.intervals import Estimate, mean_interval
from slowfast.models.base import MODEL_REGISTRY
from slowfast.models.fewshot import Episode, build_fewshot
from slowfast.utils.distributed import gather_objects
from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.files import write_atomic, write_text_atomic
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import Runtime
from slowfast.video.device import build_normalizer

logger = get_logger(__name__)

_CACHED_AT_ONCE = 100  # tasks on cached embeddings


@TASK_REGISTRY.register("fewshot")
class FewShotTask:
    """See :class:`slowfast.engine.tasks.base.Task`; its items are tasks, one a batch."""

    def __init__(self, cfg: CfgNode, runtime: Runtime):
        self.cfg, self.runtime = cfg, runtime
        expected = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME).spec.input_format(cfg)
        self._normalizer = build_normalizer(cfg, False, expected)
        self._clips: dict[str, FewShotClips] = {}
        self.class_names = self._train_classes()

    def _train_classes(self) -> list[str]:
        file = list_file(self.cfg, "train")
        return class_names(file) if self.cfg.TRAIN.ENABLE or file.is_file() else []

    # -- data ------------------------------------------------------------------------------------

    def _list_of(self, split: str) -> str:
        """The list that serves a split: the test list may choose the best weights, as published."""
        return "test" if split == "val" and self.cfg.FEWSHOT.SELECT_ON == "test" else split

    def clips(self, split: str) -> FewShotClips:
        """The clips of a split, found once."""
        if split not in self._clips:
            self._clips[split] = FewShotClips(self.cfg, split, self._list_of(split))
        return self._clips[split]

    def episodes(self, split: str) -> EpisodeDataset:
        """The tasks of a split."""
        options = self.cfg.FEWSHOT
        count = {
            "train": options.TRAIN_TASKS,
            "val": options.VAL_TASKS,
            "test": options.TEST_TASKS,
        }[split]
        return EpisodeDataset(self.cfg, self.clips(split), count)

    def check_data(self) -> None:
        used = ["train", "val"] if self.cfg.TRAIN.ENABLE else []
        used += ["test"] if self.cfg.TEST.ENABLE else []
        files = {split: list_file(self.cfg, split) for split in SPLITS}
        check_disjoint({s: f for s, f in files.items() if f.is_file() or s in used})
        for split in used:
            clips, tasks = self.clips(split), self.episodes(split)
            logger.info(
                "%s: %s: %d clips of %d classes, %d tasks %s",
                split,
                clips.list.source,
                len(clips.items),
                len(clips.class_names),
                len(tasks),
                self.protocol(split),
            )

    def protocol(self, split: str) -> str:
        """How tasks are made, in words for every result."""
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
            self.cfg, split, self.runtime, self.episodes(split), size=1, collate_fn=collate_task
        )

    # -- network ---------------------------------------------------------------------------------

    def build_model(self) -> nn.Module:
        return build_fewshot(self.cfg, max(len(self.class_names), 1), self.runtime.device)

    def accept_class_names(self, checkpoint_names: list[str]) -> None:
        """Warn of test classes that the weights were trained on."""
        leaked = sorted(set(checkpoint_names) & set(self.clips("test").class_names))
        if leaked:
            logger.warning(
                "the weights were trained on %d of the test classes, e.g. %r: this is no few-shot "
                "test",
                len(leaked),
                leaked[0],
            )

    def embed_input(self, video: torch.Tensor) -> torch.Tensor:
        """uint8 clips ``B 3 T H W`` -> the network's input on the device."""
        return self._normalizer(video, self.runtime.device)

    def to_device(self, batch: Batch, split: str) -> tuple[Episode, torch.Tensor]:
        """(episode, labels of its queries) on the device."""
        labels, known = (batch[name].to(self.runtime.device) for name in ("label", "global_label"))
        return Episode(self.embed_input(batch["video"]), batch["way"], labels, known), labels

    def training_input(self, batch: Batch, step: int) -> tuple[Episode, torch.Tensor]:
        with torch.autocast(self.runtime.device.type, enabled=False):
            return self.to_device(batch, "train")

    def picture(self, video: Episode | torch.Tensor, split: str) -> torch.Tensor:
        return self._normalizer.picture(video.video if isinstance(video, Episode) else video)

    def captions(self, batch: Batch, rows: int, targets: torch.Tensor) -> list[str]:
        support = rows - len(targets)
        shot = support // batch["way"]
        labels = [row // shot for row in range(support)] + targets.tolist()
        parts = ["support"] * support + ["query"] * len(targets)
        paths = [Path(path) for path in batch["path"]]
        return [
            f"{part} of class {label}  {path.parent.name}/{path.name}"
            for part, label, path in zip(parts, labels, paths)
        ]

    def loss(self, model: nn.Module, batch: Batch, step: int) -> LossOutput:
        episode, labels = self.training_input(batch, step)
        logits, losses = model(episode)
        error = 100 * float((logits.detach().argmax(1) != labels).float().mean())
        stats = {name: float(value.detach()) for name, value in losses.items()}
        return LossOutput(sum(losses.values()), len(labels), stats | {"top1_err": error})

    # -- evaluation ------------------------------------------------------------------------------

    def validator(self) -> EpisodeEvaluator:
        return EpisodeEvaluator(self, "val")

    def testers(self) -> list[tuple[str, DataLoader, EpisodeEvaluator]]:
        options = self.cfg.FEWSHOT
        if options.EPISODES_FILE and self.runtime.is_main:
            tasks = self.episodes("test")
            lines = episode_lines(tasks.sampler, tasks.clips, len(tasks))
            text = "".join(f"{line}\n" for line in lines)
            write_text_atomic(Path(self.cfg.OUTPUT_DIR) / options.EPISODES_FILE, text)
        evaluator = EpisodeEvaluator(self, "test")
        loader = self.loader("test")
        if options.CACHE:
            # Only which clips belong together is drawn: nothing is decoded.
            loader = construct_loader(
                self.cfg,
                "test",
                self.runtime,
                DrawnTasks(loader.dataset),
                size=_CACHED_AT_ONCE,
                collate_fn=_collate_drawn,
            )
        return [(self.protocol("test"), loader, evaluator)]

    def save_results(self, name: str, evaluator: EpisodeEvaluator) -> None:
        folder = Path(self.cfg.OUTPUT_DIR)
        evaluator.write_tasks(folder / "tasks.csv")
        evaluator.write_classes(folder / "classes.csv")


class DrawnTasks(Dataset):
    """Numbers of tasks in place of their clips, for embeddings from a cache."""

    views_per_video = 1

    def __init__(self, episodes: EpisodeDataset):
        self.episodes = episodes
        self.list, self.videos_per_pass = episodes.list, episodes.videos_per_pass

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, key: SampleKey) -> int:
        return self.episodes.number_of(key)


def _collate_drawn(numbers: list[int]) -> Batch:
    return {"bad": [], "label": torch.tensor(numbers)}


class EpisodeEvaluator:
    """Accuracy of every task and of every class."""

    def __init__(self, task: FewShotTask, split: str):
        self.task, self.split = task, split
        self.accuracy: dict[int, float] = {}
        self.by_class: dict[int, list[int]] = defaultdict(lambda: [0, 0])  # right, all
        self._autocast = build_autocast(task.cfg, task.runtime)
        self._cache: FeatureCache | None = None
        self._sampler = task.episodes(split).sampler

    def add(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        if "video" not in batch:
            return self._add_cached(model, batch)
        episode, labels = self.task.to_device(batch, self.split)
        with self._autocast():
            logits, _ = model(episode)
        right = (logits.argmax(1) == labels).tolist()
        number = int(batch["index"][0])
        return self._note([(number, right, batch["global_label"].tolist())])

    def _note(self, tasks: list[tuple[int, list[bool], list[int]]]) -> dict[str, float]:
        """Take (number, right or wrong, classes of the queries) of some tasks."""
        for number, right, classes in tasks:
            self.accuracy[number] = 100 * sum(right) / len(right)
            for hit, label in zip(right, classes):
                self.by_class[label][0] += hit
                self.by_class[label][1] += 1
        mean = sum(self.accuracy[number] for number, _, _ in tasks) / len(tasks)
        return {"top1_err": 100 - mean}

    def _add_cached(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        network, clips = unwrap(model), self.task.clips(self.split)
        if self._cache is None:

            def embed(video: torch.Tensor) -> torch.Tensor:
                with self._autocast():
                    return network.embed(self.task.embed_input(video))

            self._cache = open_cache(self.task.cfg, network, clips, embed)
        tasks = self._draw(batch["label"].tolist(), self._cache.bad, batch["bad"])
        if not tasks:
            return {}
        device = self.task.runtime.device
        support, queries, labels = (
            np.array([getattr(task, name) for task in tasks])
            for name in ("support", "queries", "labels")
        )
        targets = torch.from_numpy(labels).to(device)
        features = (self._cache.take(clips).to(device) for clips in (support, queries))
        with self._autocast():
            logits, _ = network.head(*features, targets, targets)  # N Q K
        right = (logits.argmax(-1) == targets).tolist()
        return self._note([(t.number, r, t.query_classes) for t, r in zip(tasks, right)])

    def _draw(
        self, numbers: list[int], bad: dict[int, BadItem], reported: list[BadItem]
    ) -> list[Draw]:
        passed_over = frozenset(bad)
        tasks = []
        for number in numbers:
            try:
                task = self._sampler.draw(number, passed_over)
            except VideoError as error:  # a class has too few readable clips
                reported.append(lost_task(number, error, bad))
                continue
            tasks.append(task)
            reported += [bad[clip] for clip in task.passed]
        return tasks

    def merge_ranks(self) -> None:
        gathered = gather_objects((self.accuracy, dict(self.by_class)))
        self.accuracy, self.by_class = {}, defaultdict(lambda: [0, 0])
        for accuracy, by_class in gathered:
            self.accuracy |= accuracy
            for label, (right, count) in by_class.items():
                self.by_class[label][0] += right
                self.by_class[label][1] += count

    @property
    def estimate(self) -> Estimate:
        """Mean accuracy over tasks in percent, with its 95 % interval."""
        return mean_interval([self.accuracy[number] for number in sorted(self.accuracy)])

    def stats(self) -> dict[str, Any]:
        """``top1_err``, ``score`` (mean accuracy), ``interval`` in percent, ``tasks``."""
        if not self.accuracy:
            raise UserError("no task could be read", "see the warnings above", f"{self.split} list")
        mean, interval = self.estimate
        return {
            "top1_err": 100 - mean,
            "score": mean,
            "interval": round(interval, 3),
            "tasks": len(self.accuracy),
        }

    def summary(self) -> tuple[str, dict[str, Any]]:
        """One line for people, and entries of the JSON line."""
        mean, interval = self.estimate
        text = f"{mean:.2f} ± {interval:.2f} % over {len(self.accuracy)} tasks"
        entries = {
            "top1_acc": f"{mean:.2f}",
            "interval": f"{interval:.2f}",
            "tasks": len(self.accuracy),
            "protocol": self.task.protocol(self.split),
        }
        return text, entries

    def write_tasks(self, path: Path) -> None:
        """``task,accuracy`` in percent, a line a task: what tools/compare_runs.py reads."""
        rows = [[number, f"{self.accuracy[number]:.4f}"] for number in sorted(self.accuracy)]
        _write_csv(path, ["task", "accuracy"], rows)

    def write_classes(self, path: Path) -> None:
        """Accuracy over all queries of a class."""
        names = self.task.clips(self.split).class_names
        rows = [
            [names[label], count, f"{100 * right / count:.2f}"]
            for label, (right, count) in sorted(self.by_class.items())
        ]
        _write_csv(path, ["class", "queries", "accuracy"], rows)


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    def write(temporary: str) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])

    write_atomic(path, write)
