"""Few-shot episodes as samples and batches, whether clips are decoded or their embeddings known."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.utils.data import Dataset

from slowfast.config.node import CfgNode
from slowfast.datasets.base import SampleKey
from slowfast.datasets.batch import BadItem, Batch, EpisodeInfo
from slowfast.datasets.clip_reader import ClipReader, Sample, stack_channels_last
from slowfast.datasets.episode_sampler import EpisodeIndices, EpisodeSampler, TooFewClips
from slowfast.datasets.lists import ItemList
from slowfast.utils.errors import VideoError
from slowfast.video.pipelines import build_val_pipeline


@dataclass(frozen=True)
class EpisodePlan:
    """The episodes of a split: ``count`` per pass, which ``sampler`` draws from ``item_list``.

    ``on_error`` is the value of DATA.ON_ERROR.
    """

    split: str
    item_list: ItemList
    sampler: EpisodeSampler
    count: int
    on_error: str = "skip"

    @classmethod
    def from_cfg(cls, cfg: CfgNode, split: str, item_list: ItemList) -> EpisodePlan:
        """The plan of a split; UserError if its list has too few classes or clips."""
        sampler = EpisodeSampler.from_cfg(cfg, split, item_list)
        count = cfg.FEWSHOT[f"{split.upper()}_EPISODES"]
        return cls(split, item_list, sampler, count, cfg.DATA.ON_ERROR)

    def number_of(self, key: SampleKey) -> int:
        """Training draws new episodes in every epoch, evaluation repeats its own."""
        return key.epoch * self.count + key.index if self.split == "train" else key.index

    def json_lines(self) -> Iterator[str]:
        """A JSON object per episode: its class names, its support and query clips by path."""
        items, names = self.item_list.items, self.item_list.class_names
        for number in range(self.count):
            episode = self.sampler.draw(number)
            yield json.dumps(
                {
                    "episode": number,
                    "classes": [names[label] for label in episode.classes],
                    "support": [items[i].path for row in episode.support for i in row],
                    "query": [items[i].path for i in episode.queries],
                    "query_labels": episode.query_labels,
                }
            )


class UnreadableClip(VideoError):
    """Clip ``index`` of the list cannot be read."""

    def __init__(self, index: int, path: str, cause: str):
        super().__init__(path, cause)
        self.index = index


class EpisodeSource(Dataset):
    """The episodes of a plan; subclasses know where the tensors of clips come from.

    ``source[SampleKey(epoch, index)]`` gives the tensors of the clips under :attr:`field`
    (``K*S+Q …``: support by class, then queries), ``label`` and ``global_label`` ``Q`` of the
    queries, ``way``, ``index`` (the episode's number) and the ``path`` of each clip. A clip that
    cannot be read is replaced by another of its class and is named in ``replaced``; an episode
    whose class has too few readable clips gives a :class:`BadItem`. With ``DATA.ON_ERROR raise``
    both are a VideoError.
    """

    field: ClassVar[str]
    views_per_video = 1

    def __init__(self, plan: EpisodePlan):
        self.plan = plan
        self.bad: dict[int, BadItem] = {}  # the clips that turned out to be unreadable

    @abstractmethod
    def load_clips(self, indices: list[int], number: int) -> torch.Tensor:
        """The clips ``indices`` of the list as episode ``number`` sees them; UnreadableClip."""

    @property
    def item_list(self) -> ItemList:
        return self.plan.item_list

    @property
    def videos_per_pass(self) -> int:
        """Clips that a pass over the episodes reads."""
        return len(self) * self.plan.sampler.clips_per_episode

    def describe(self) -> str:
        """The list and what is drawn from it, for the log."""
        clips = self.item_list
        return (
            f"{clips.source}: {len(clips.items)} clips of {len(clips.class_names)} classes, "
            f"{len(self)} episodes"
        )

    def __len__(self) -> int:
        return self.plan.count

    def __getitem__(self, key: SampleKey) -> Sample | BadItem:
        number = self.plan.number_of(key)
        while True:  # until all drawn clips are readable
            try:
                episode = self.plan.sampler.draw(number, self.bad)
            except TooFewClips as error:
                return unreadable_episode(number, error, self.bad, self.item_list)
            tensors = self._load(episode)
            if tensors is not None:
                return self._describe(episode) | {self.field: tensors}

    def _load(self, episode: EpisodeIndices) -> torch.Tensor | None:
        """The clips of an episode, or None if one is unreadable; it is then known to be bad."""
        try:
            return self.load_clips(episode.indices, episode.number)
        except UnreadableClip as error:
            if self.plan.on_error == "raise":
                raise
            item = self.item_list.items[error.index]
            self.bad[error.index] = BadItem(error.index, item.path, item.line, error.cause)
            return None

    def _describe(self, episode: EpisodeIndices) -> Sample:
        return {
            "label": torch.tensor(episode.query_labels),
            "global_label": torch.tensor(episode.global_labels),
            "way": len(episode.classes),
            "index": episode.number,
            "path": [self.item_list.items[index].path for index in episode.indices],
            "replaced": [self.bad[index] for index in episode.skipped],
        }


class DecodedEpisodes(EpisodeSource):
    """Episodes of clips that ``reader`` decodes: ``video`` is uint8 ``K*S+Q 3 T H W``."""

    field = "video"

    def __init__(self, plan: EpisodePlan, reader: ClipReader):
        super().__init__(plan)
        self.reader = reader

    def load_clips(self, indices: list[int], number: int) -> torch.Tensor:
        """uint8 ``clips 3 T H W``; random frames and crops follow from the episode's number."""
        videos = []
        for index in indices:
            try:
                item = self.item_list.items[index]
                videos.append(self.reader.read(item, number, index)["video"])
            except VideoError as error:
                raise UnreadableClip(index, error.path, error.cause) from error
        return stack_channels_last(videos)


def build_clip_reader(cfg: CfgNode, split: str) -> ClipReader:
    """The reader of few-shot clips.

    Validation and test take one clip per video, cropped in the centre as torchvision does; with
    FEWSHOT.TEST_JITTER its frames are drawn at random as in training.
    """
    if split == "train":
        return ClipReader(cfg, split, sampling="linspace")
    return ClipReader(
        cfg,
        split,
        sampling="linspace",
        single_clip=True,
        random_frames=cfg.FEWSHOT.TEST_JITTER,
        pipeline=build_val_pipeline(cfg, torchvision_center_crop=True),
    )


def unreadable_episode(
    number: int, error: TooFewClips, bad: Mapping[int, BadItem], item_list: ItemList
) -> BadItem:
    """An episode for which a class has too few readable clips; one of the bad clips is named."""
    clip = next(item for i, item in bad.items() if item_list.items[i].label == error.label)
    return BadItem(number, error.path, 0, f"{error.cause}; {clip.path}: {clip.cause}")


def collate_episodes(samples: list[Sample | BadItem]) -> Batch:
    """Episodes -> batch: one decoded episode, or any number of episodes of embeddings."""
    good = [s for s in samples if not isinstance(s, BadItem)]
    bad = [s for s in samples if isinstance(s, BadItem)]
    bad += [item for s in good for item in s["replaced"]]
    if not good:
        return Batch(bad=bad)
    features = torch.stack([s["features"] for s in good]) if "features" in good[0] else None
    episode = EpisodeInfo(
        numbers=[s["index"] for s in good],
        way=good[0]["way"],
        global_label=torch.stack([s["global_label"] for s in good]),
        features=features,
    )
    return Batch(
        video=good[0].get("video"),
        label=torch.stack([s["label"] for s in good]),
        index=torch.tensor(episode.numbers),
        path=[path for s in good for path in s["path"]],
        bad=bad,
        episode=episode,
    )
