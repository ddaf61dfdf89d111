"""Episodes of embeddings that were computed before: nothing is decoded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from slowfast.datasets.batch import BadItem
from slowfast.datasets.episodes import EpisodePlan, EpisodeSource, UnreadableClip


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

    def load_clips(self, indices: list[int], number: int) -> torch.Tensor:
        """Embeddings ``clips …``, the same in every episode."""
        for index in indices:
            if index in self.unreadable:
                clip = self.unreadable[index]
                raise UnreadableClip(index, clip.path, clip.cause)
        return torch.from_numpy(np.ascontiguousarray(self.embeddings[np.array(indices)]))

    def describe(self) -> str:
        return f"{super().describe()}, on embeddings from a cache"
