"""Episodes of embeddings that were computed before: nothing is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from slowfast.datasets.batch import BadItem
from slowfast.datasets.clip_reader import Sample
from slowfast.datasets.episodes import ClipKey, EpisodePlan, EpisodeSource
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

    def load_clips(self, clips: Sequence[ClipKey]) -> list[Sample | BadItem]:
        """Embeddings of the clips, the same in every episode."""
        indices = np.array([clip.index for clip in clips])
        rows = torch.from_numpy(np.ascontiguousarray(self.embeddings[indices]))
        return [self._checked(clip.index, row) for clip, row in zip(clips, rows)]

    def _checked(self, index: int, row: torch.Tensor) -> Sample | BadItem:
        if index not in self.unreadable:
            return {self.field: row}
        clip = self.unreadable[index]
        return self.bad_clip(index, VideoError(clip.path, clip.cause))

    def describe(self) -> str:
        return f"{super().describe()}, on embeddings from a cache"
