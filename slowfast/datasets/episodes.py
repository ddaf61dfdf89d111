"""Few-shot episodes as samples and batches, whether clips are decoded or their embeddings known."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from slowfast.config.node import CfgNode
from slowfast.datasets.base import Reading, SampleKey, SampleSource, complete, raise_if_starved
from slowfast.datasets.batch import BadItem, Batch, EpisodeInfo
from slowfast.datasets.clip_reader import ClipReader, Sample
from slowfast.datasets.episode_sampler import EpisodeIndices, EpisodeSampler, TooFewClips
from slowfast.datasets.lists import ItemList
from slowfast.datasets.shared import join_clips
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


class ClipKey(NamedTuple):
    """A clip of an episode: number of the episode, index of the clip in its list."""

    episode: int
    index: int


class EpisodeSource(SampleSource):
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
    def load_clips(self, clips: Sequence[ClipKey]) -> list[Sample | BadItem]:
        """The tensor of each clip under :attr:`field`, or what is wrong with the clip; VideoError
        with DATA.ON_ERROR ``raise``."""

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
        return complete(self.read_episode(key), self.load_clips)

    def read_episode(self, key: SampleKey) -> Reading:
        """A generator that asks for clips (lists of :class:`ClipKey`) and returns the sample."""
        number = self.plan.number_of(key)
        known: dict[int, torch.Tensor] = {}
        while True:  # until all drawn clips are readable
            try:
                episode = self.plan.sampler.draw(number, self.bad)
            except TooFewClips as error:
                return unreadable_episode(number, error, self.bad, self.item_list)
            missing = [index for index in episode.indices if index not in known]
            if not missing:
                clips = [known[index] for index in episode.indices]
                return self._describe(episode) | {self.field: self.join(clips)}
            loaded = yield [ClipKey(number, index) for index in missing]
            for index, clip in zip(missing, loaded):
                if isinstance(clip, BadItem):
                    self.bad[index] = clip
                else:
                    known[index] = clip[self.field]

    def join(self, clips: list[torch.Tensor]) -> torch.Tensor:
        """Tensors of an episode's clips -> one tensor ``K*S+Q …``."""
        return torch.stack(clips)

    def bad_clip(self, index: int, error: VideoError) -> BadItem:
        """Clip ``index`` in place of its tensor; the error, with DATA.ON_ERROR ``raise``."""
        if self.plan.on_error == "raise":
            raise error
        item = self.item_list.items[index]
        return BadItem(index, item.path, item.line, error.cause)

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

    def assemble(self, key: SampleKey) -> Reading:
        """Clip by clip: a slow one does not hold up the others of its episode."""
        return self.read_episode(key)

    def load(self, parts: Sequence[ClipKey]) -> list[Sample | BadItem]:
        return self.load_clips(parts)

    def load_clips(self, clips: Sequence[ClipKey]) -> list[Sample | BadItem]:
        """uint8 ``3 T H W`` each; random frames and crops follow from the episode's number."""
        return [self._read(clip) for clip in clips]

    def _read(self, clip: ClipKey) -> Sample | BadItem:
        try:
            item = self.item_list.items[clip.index]
            return {"video": self.reader.read(item, clip.episode, clip.index)["video"]}
        except VideoError as error:
            raise_if_starved(error)
            return self.bad_clip(clip.index, error)

    def join(self, clips: list[torch.Tensor]) -> torch.Tensor:
        return join_clips(clips)


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
