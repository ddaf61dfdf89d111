"""Batch: its size, its way to a device, and fields that data sets add."""

from __future__ import annotations

import pickle

import torch

from slowfast.datasets.batch import BadItem, Batch, EpisodeInfo
from slowfast.datasets.loader import collate


def sample(index: int, **extra) -> dict:
    video = torch.full((3, 2, 4, 4), index, dtype=torch.uint8)
    return {"video": video, "label": index % 2, "index": index, "path": f"v{index}"} | extra


def test_an_empty_batch_counts_nothing():
    bad = BadItem(3, "x.mp4", 4, "no video")
    batch = collate([bad])
    assert batch.size == 0 and batch.video is None and batch.bad == [bad]


def test_own_fields_survive_collation():
    rows = [sample(n, audio=torch.full((5,), float(n)), title=f"t{n}", rate=n / 2) for n in (0, 1)]
    batch = collate(rows)
    assert batch.extra["audio"].shape == (2, 5) and batch.extra["title"] == ["t0", "t1"]
    assert batch.extra["rate"].tolist() == [0.0, 0.5] and batch.size == 2


def test_copies_of_a_video_repeat_its_own_fields():
    rows = [
        sample(n, boxes=torch.zeros(2, 1, 5), note=n) | {"video": torch.zeros(2, 3, 2, 4, 4)}
        for n in (4, 7)
    ]
    batch = collate(rows)
    assert batch.video.shape == (4, 3, 2, 4, 4) and batch.boxes.shape == (4, 1, 5)
    assert batch.index.tolist() == [4, 4, 7, 7] and batch.extra["note"].tolist() == [4, 4, 7, 7]


def test_all_tensors_move():
    info = EpisodeInfo([1], 2, torch.zeros(1, 3), torch.zeros(1, 5, 2))
    batch = collate([sample(0, audio=torch.zeros(2), nested={"a": torch.zeros(1)})])
    batch.episode = info
    moved = batch.to("meta")
    tensors = [moved.video, moved.label, moved.index, moved.episode.features]
    tensors += [moved.episode.global_label, moved.extra["audio"], moved.extra["nested"]["a"]]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert batch.video.device.type == "cpu" and moved.path == batch.path
    assert moved.episode.numbers == [1] and moved.episode.way == 2


def test_a_batch_travels_between_processes():
    batch = collate([sample(0), sample(1)])
    again = pickle.loads(pickle.dumps(batch))
    assert torch.equal(again.video, batch.video) and again.path == batch.path
    assert isinstance(again, Batch)
