"""Episodes of embeddings that were computed before: nothing is decoded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from slowfast.datasets.batch import BadItem
from slowfast.datasets.episodes import EpisodePlan, EpisodeSource
from slowfast.utils.errors import VideoError


class EmbeddedEpisodes(EpisodeSource):
    """Episodes whose ``features`` are float32 ``K*S+Q …``, one embedding per clip.

    Args:
        plan: the episodes.
        embeddings: float32 ``N …``, one per clip of the list, in its order; may be mapped from a
            file. Rows of unreadable clips are not used.
        unreadable: the clips without an embedding, by index.
    """

    field = "features"

    def __init__(
        self, plan: EpisodePlan, embeddings: np.ndarray, unreadable: Mapping[int, BadItem]
    ):
        super().__init__(plan)
        self.embeddings, self.unreadable = embeddings, unreadable

    def load_clip(self, index: int, number: int) -> torch.Tensor:
        """The embedding of a clip, the same in every episode."""
        if index in self.unreadable:
            raise VideoError(self.unreadable[index].path, self.unreadable[index].cause)
        return torch.from_numpy(np.array(self.embeddings[index]))

    def describe(self) -> str:
        return f"{super().describe()}, on embeddings from a cache"
