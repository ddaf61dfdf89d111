"""Episodes on embeddings of clips that were computed before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from slowfast.datasets.base import SampleKey
from slowfast.datasets.batch import BadItem
from slowfast.datasets.clip_reader import Sample
from slowfast.datasets.episodes import EpisodeDataset, lost_task
from slowfast.utils.errors import VideoError


@dataclass(frozen=True)
class FeatureCache:
    """``features`` ``N …`` float32 in list order; rows of unreadable clips (``bad``) are zero."""

    features: np.ndarray
    bad: dict[int, BadItem]

    def take(self, clips: np.ndarray) -> torch.Tensor:
        """Embeddings of clips by index, any shape of indices first."""
        return torch.from_numpy(np.ascontiguousarray(self.features[clips]))


class EmbeddedEpisodes(Dataset):
    """The episodes of a data set on embeddings from a cache: nothing is decoded."""

    views_per_video = 1

    def __init__(self, episodes: EpisodeDataset, cache: FeatureCache):
        self.split, self.episodes, self.cache = episodes.split, episodes, cache
        self.item_list, self.videos_per_pass = episodes.item_list, episodes.videos_per_pass

    def __len__(self) -> int:
        return len(self.episodes)

    def describe(self) -> str:
        """The list and what is drawn from it, for the log."""
        return f"{self.episodes.describe()}, on embeddings from a cache"

    def __getitem__(self, key: SampleKey) -> Sample | BadItem:
        number, bad = self.episodes.number_of(key), self.cache.bad
        try:
            draw = self.episodes.sampler.draw(number, frozenset(bad))
        except VideoError as error:  # a class has too few readable clips
            return lost_task(number, error, bad)
        sample = self.episodes.facts(draw, bad)
        return sample | {"features": self.cache.take(np.array(draw.clips))}
