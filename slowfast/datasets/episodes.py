"""Episodes: few-shot tasks that depend on (seed, split, number) and nothing else."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from slowfast.config.node import CfgNode
from slowfast.datasets.base import BadItem, Sample, SampleKey, VideoDataset
from slowfast.datasets.fewshot_lists import read_clips
from slowfast.datasets.lists import ItemList
from slowfast.utils.errors import Problem, UserError, VideoError
from slowfast.utils.seeding import sample_rng
from slowfast.video.source import Source


class FewShotClips(VideoDataset):
    """The clips of a split, one by one; validation and test give one deterministic clip each."""

    sampling = "linspace"

    def __init__(self, cfg: CfgNode, split: str, listed: str = ""):
        self._listed = listed or split
        self._jitter = cfg.FEWSHOT.TEST_JITTER
        super().__init__(cfg, split)
        self._val = dataclasses.replace(self._val, torchvision_center_crop=True)

    def _load_list(self, cfg: CfgNode) -> ItemList:
        return self.read_list(cfg)

    def read_list(self, cfg: CfgNode) -> ItemList:
        return read_clips(cfg, self._listed)

    def clip(self, index: int, task: int) -> torch.Tensor:
        """Clip ``index`` as task number ``task`` sees it: uint8 ``3 T H W``; or a VideoError."""
        return self._build(self.items[index], task, index)["video"]

    def _val_sample(self, source: Source, epoch: int, index: int) -> Sample:
        if not self._jitter:
            return super()._val_sample(source, epoch, index)
        rng = sample_rng(self.seed, epoch, index, "jitter")
        indices = self.sampler.train_indices(source.num_frames, source.fps, rng)
        return {"video": self._val(source.clips([indices]))[0]}

    _test_sample = _val_sample


@dataclass(frozen=True)
class Draw:
    """Clips of one task by index: ``support`` K x S, ``queries`` with the ``labels`` (0..K-1) of
    their classes; ``classes`` are labels of the split; ``passed``: bad clips passed over."""

    number: int
    classes: list[int]
    support: list[list[int]]
    queries: list[int]
    labels: list[int]
    passed: list[int]

    @property
    def clips(self) -> list[int]:
        """Support clips by class, then queries."""
        return [clip for row in self.support for clip in row] + self.queries

    @property
    def query_classes(self) -> list[int]:
        """The split's label of each query."""
        return [self.classes[label] for label in self.labels]


class TaskSampler:
    """Draws tasks from labelled clips."""

    def __init__(
        self,
        labels: Sequence[int],
        options: CfgNode,
        split: str,
        seed: int,
        names: Sequence[str] = (),
    ):
        self.way, self.shot = options.WAY, options.SHOT
        self.query = options.QUERY if split == "train" else options.QUERY_TEST
        self.all_classes = options.QUERY_CLASSES == "all"
        self.seed, self.purpose, self.names = seed, f"{split} task", names
        by_class: dict[int, list[int]] = defaultdict(list)
        for index, label in enumerate(labels):
            by_class[label].append(index)
        self.clips = {label: np.array(by_class[label]) for label in sorted(by_class)}
        problems = list(self._problems(split, names))
        if problems:
            raise UserError(problems)

    def _problems(self, split: str, names: Sequence[str]) -> Iterator[Problem]:
        if len(self.clips) < self.way:
            yield Problem(
                f"{self.way} classes a task, but the {split} list has clips of {len(self.clips)}",
                "lower it, or add classes",
                "FEWSHOT.WAY",
            )
        needed = self.shot + self.query
        few = [label for label, clips in self.clips.items() if len(clips) < needed]
        if few:
            name = repr(names[few[0]]) if names else str(few[0])
            yield Problem(
                f"a task takes {needed} clips of a class ({self.shot} shots and {self.query} "
                f"queries), but {len(few)} classes of the {split} list have fewer, e.g. {name} "
                f"{len(self.clips[few[0]])}",
                "lower FEWSHOT.SHOT or the queries, or leave those classes out",
                "FEWSHOT.SHOT",
            )

    def draw(self, number: int, bad: frozenset[int] = frozenset()) -> Draw:
        """Task ``number``; ``bad`` clips are passed over, the next of the class takes the place.

        VideoError if a class has too few others.
        """
        rng = sample_rng(self.seed, 0, number, self.purpose)
        labels = np.array(list(self.clips))
        classes = rng.permutation(labels)[: self.way].tolist()
        asked = range(self.way) if self.all_classes else [int(rng.integers(self.way))]
        support, queries, of, passed = [], [], [], []
        for place, label in enumerate(classes):
            order = iter(rng.permutation(self.clips[label]).tolist())
            count = self.shot + (self.query if place in asked else 0)
            chosen: list[int] = []
            while len(chosen) < count:
                clip = next(order, None)
                if clip is None:
                    name = repr(self.names[label]) if self.names else str(label)
                    raise VideoError(f"class {name}", f"has fewer than {count} readable clips")
                (passed if clip in bad else chosen).append(clip)
            support.append(chosen[: self.shot])
            queries += chosen[self.shot :]
            of += [place] * (count - self.shot)
        return Draw(number, classes, support, queries, of, passed)


class EpisodeDataset(Dataset):
    """``count`` tasks an epoch over the clips of a split.

    ``dataset[SampleKey(epoch, index)]`` gives ``video`` (uint8 ``K*S+Q 3 T H W``: support by class,
    then queries), ``label`` and ``global_label`` of the queries, ``way``, ``index`` and ``path``s.
    Clips that cannot be read are replaced by others of their class and named in ``replaced``.
    """

    views_per_video = 1

    def __init__(self, cfg: CfgNode, clips: FewShotClips, count: int):
        self.clips, self.count, self.on_error = clips, count, cfg.DATA.ON_ERROR
        labels = [item.label for item in clips.items]
        self.sampler = TaskSampler(
            labels, cfg.FEWSHOT, clips.split, cfg.RNG_SEED, clips.class_names
        )
        self.known_bad: dict[int, BadItem] = {}

    def __len__(self) -> int:
        return self.count

    @property
    def list(self) -> ItemList:
        """The clips' list."""
        return self.clips.list

    @property
    def videos_per_pass(self) -> int:
        """Clips that a pass over the tasks reads."""
        return self.count * len(self.sampler.draw(0).clips)

    def number_of(self, key: SampleKey) -> int:
        """Training goes on to new tasks in every epoch; tests repeat theirs."""
        return key.epoch * self.count + key.index if self.clips.split == "train" else key.index

    def __getitem__(self, key: SampleKey) -> Sample | BadItem:
        number = self.number_of(key)
        while True:  # as long as another clip turns out to be unreadable
            try:
                task = self.sampler.draw(number, frozenset(self.known_bad))
            except VideoError as error:
                return lost_task(number, error, self.known_bad)
            video = self._read(task)
            if video is not None:
                break
        items = [self.clips.items[clip] for clip in task.clips]
        return {
            "video": video,
            "label": torch.tensor(task.labels),
            "global_label": torch.tensor(task.query_classes),
            "way": len(task.classes),
            "index": number,
            "path": [item.path for item in items],
            "replaced": [self.known_bad[clip] for clip in task.passed],
        }

    def _read(self, task: Draw) -> torch.Tensor | None:
        """The task's clips, or None if one cannot be read, which is known from then on."""
        videos = []
        for clip in task.clips:
            try:
                videos.append(self.clips.clip(clip, task.number))
            except VideoError as error:
                if self.on_error == "raise":
                    raise
                item = self.clips.items[clip]
                self.known_bad[clip] = BadItem(clip, item.path, item.line, error.cause)
                return None
        return torch.stack([video.movedim(-4, -1) for video in videos]).movedim(-1, -4)


def lost_task(number: int, error: VideoError, bad: Mapping[int, BadItem]) -> BadItem:
    """A task for which a class has too few readable clips; one of the unreadable is named."""
    clip = next(iter(bad.values()))
    return BadItem(number, error.path, 0, f"{error.cause}; {clip.path}: {clip.cause}")


def collate_task(samples: list[Sample | BadItem]) -> dict[str, Any]:
    """The one task of a batch; ``bad`` lists clips that could not be read."""
    (sample,) = samples
    if isinstance(sample, BadItem):
        return {"bad": [sample]}
    batch = {"bad": sample.pop("replaced")} | sample
    return batch | {"index": torch.tensor([sample["index"]] * len(sample["label"]))}


def episode_lines(sampler: TaskSampler, clips: FewShotClips, count: int) -> Iterator[str]:
    """Tasks as JSON lines: classes, support and query clips by name."""
    for number in range(count):
        task = sampler.draw(number)
        paths = [clips.items[clip].path for clip in task.clips]
        support = len(paths) - len(task.queries)
        yield json.dumps(
            {
                "task": number,
                "classes": [clips.class_names[label] for label in task.classes],
                "support": paths[:support],
                "query": paths[support:],
                "query_labels": task.labels,
            }
        )
