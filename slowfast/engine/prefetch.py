"""Clips on their way to the device before the step that needs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch

from slowfast.datasets.batch import Batch
from slowfast.utils.transfer import copied_ahead


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches of a loader with clips and embeddings on ``device``.

    They are copied on a stream of its own while the device still computes the step before.
    Everything small stays on the host, which reads labels, numbers and boxes without waiting.
    """

    def move(batch: Batch) -> Batch:
        video, episode = batch.video, batch.episode
        if video is not None:
            video = video.to(device, non_blocking=True)
        if episode is not None and episode.features is not None:
            features = episode.features.to(device, non_blocking=True)
            episode = replace(episode, features=features)
        return replace(batch, video=video, episode=episode)

    return copied_ahead(batches, device, move, _moved)


def _moved(batch: Batch) -> Iterator[torch.Tensor]:
    if batch.video is not None:
        yield batch.video
    if batch.episode is not None and batch.episode.features is not None:
        yield batch.episode.features
