"""Episodes: few-shot tasks that depend on (seed, split, number) and nothing else."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from slowfast.config.node import CfgNode
from slowfast.datasets.base import SampleKey
from slowfast.datasets.batch import BadItem, Batch, EpisodeInfo
from slowfast.datasets.clip_reader import ClipReader, Sample
from slowfast.datasets.fewshot_lists import read_clips
from slowfast.datasets.lists import Item, ItemList
from slowfast.utils.errors import Problem, UserError, VideoError
from slowfast.utils.seeding import sample_rng
from slowfast.video import pipelines
from slowfast.video.source import Source


class FewShotClips:
    """The clips of a split, one by one; validation and test give one deterministic clip each."""

    def __init__(self, cfg: CfgNode, split: str, listed: str = ""):
        self.split = split
        self.item_list = read_clips(cfg, listed or split)
        self.reader = EpisodeClipReader(cfg, split)

    @property
    def items(self) -> list[Item]:
        return self.item_list.items

    @property
    def class_names(self) -> list[str]:
        """Names in label order."""
        return self.item_list.class_names

    def clip(self, index: int, episode: int) -> torch.Tensor:
        """Clip ``index`` as episode ``episode`` sees it: uint8 ``3 T H W``; or a VideoError."""
        return self.reader.read(self.items[index], episode, index)["video"]


class EpisodeClipReader(ClipReader):
    """Clips of episodes: one per video, centred as torchvision does; with FEWSHOT.TEST_JITTER the
    frames are drawn at random in evaluation, too."""

    def __init__(self, cfg: CfgNode, split: str):
        super().__init__(cfg, split, sampling="linspace")
        if split == "train":
            return
        self.pipeline = dataclasses.replace(pipelines.build_val_pipeline(cfg), rounded=True)
        self._clips_of = self._jittered_clip if cfg.FEWSHOT.TEST_JITTER else self._val_clip

    def _jittered_clip(self, source: Source, label: int, epoch: int, index: int) -> Sample:
        rng = sample_rng(self.seed, epoch, index, "jitter")
        indices = self.sampler.train(source.num_frames, source.fps, rng)
        return {"video": self.pipeline(source.clips([indices]))[0]}


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
        self.split = clips.split
        self.clips, self.count, self.on_error = clips, count, cfg.DATA.ON_ERROR
        labels = [item.label for item in clips.items]
        self.sampler = TaskSampler(
            labels, cfg.FEWSHOT, clips.split, cfg.RNG_SEED, clips.class_names
        )
        self.known_bad: dict[int, BadItem] = {}

    def __len__(self) -> int:
        return self.count

    @property
    def item_list(self) -> ItemList:
        """The list of the clips."""
        return self.clips.item_list

    @property
    def videos_per_pass(self) -> int:
        """Clips that a pass over the tasks reads."""
        return self.count * len(self.sampler.draw(0).clips)

    def describe(self) -> str:
        """The list and what is drawn from it, for the log."""
        clips = self.clips
        return (
            f"{clips.item_list.source}: {len(clips.items)} clips of {len(clips.class_names)} "
            f"classes, {len(self)} episodes"
        )

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
        return self.facts(task, self.known_bad) | {"video": video}

    def facts(self, task: Draw, bad: Mapping[int, BadItem]) -> Sample:
        """What a sample holds besides its clips."""
        items = [self.clips.items[clip] for clip in task.clips]
        return {
            "label": torch.tensor(task.labels),
            "global_label": torch.tensor(task.query_classes),
            "way": len(task.classes),
            "index": task.number,
            "path": [item.path for item in items],
            "replaced": [bad[clip] for clip in task.passed],
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


def collate_episodes(samples: list[Sample | BadItem]) -> Batch:
    """Episodes -> batch; of decoded ones there is one in a batch."""
    good = [s for s in samples if not isinstance(s, BadItem)]
    bad = [s for s in samples if isinstance(s, BadItem)]
    bad += [item for s in good for item in s["replaced"]]
    if not good:
        return Batch(bad=bad)
    features = torch.stack([s["features"] for s in good]) if "features" in good[0] else None
    info = EpisodeInfo(
        numbers=[s["index"] for s in good],
        way=good[0]["way"],
        global_label=torch.stack([s["global_label"] for s in good]),
        features=features,
    )
    return Batch(
        video=good[0].get("video"),
        label=torch.stack([s["label"] for s in good]),
        index=torch.tensor(info.numbers),
        path=[path for s in good for path in s["path"]],
        bad=bad,
        episode=info,
    )


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
