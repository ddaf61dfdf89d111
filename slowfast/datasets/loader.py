"""Loaders: samples become batches, in worker processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, default_collate

from slowfast.config.node import CfgNode
from slowfast.datasets.base import VideoDataset
from slowfast.datasets.batch import BadItem, Batch
from slowfast.datasets.batch_samplers import BATCH_SAMPLER_REGISTRY, EpochBatchSampler
from slowfast.datasets.build import build_dataset
from slowfast.datasets.clip_reader import Sample
from slowfast.utils.errors import UserError
from slowfast.utils.processes import SAVING_STATE_S, enter_worker
from slowfast.utils.runtime import Runtime

_BATCH_FIELDS = {"video", "label", "index", "path", "boxes", "replaced"}


def collate(samples: list[Sample | BadItem]) -> Batch:
    """Samples -> batch; copies of a video become neighbours, bad items stand apart.

    Fields beyond those of :class:`Batch` go through PyTorch's ``default_collate`` into ``extra``.
    """
    good = [s for s in samples if not isinstance(s, BadItem)]
    bad = [s for s in samples if isinstance(s, BadItem)]
    bad += [item for s in good for item in s.get("replaced", ())]
    if not good:
        return Batch(bad=bad)
    copies = good[0]["boxes"].shape[0] if "boxes" in good[0] else 1
    videos = torch.stack([s["video"].movedim(-4, -1) for s in good])
    if copies > 1:
        videos = videos.flatten(0, 1)
    rows = [s for s in good for _ in range(copies)]
    extra = {name: [s[name] for s in rows] for name in good[0].keys() - _BATCH_FIELDS}
    return Batch(
        video=videos.movedim(-1, -4),
        label=torch.tensor([s["label"] for s in rows]),
        index=torch.tensor([s["index"] for s in rows]),
        path=[s["path"] for s in rows],
        bad=bad,
        boxes=torch.cat([s["boxes"] for s in good]) if "boxes" in good[0] else None,
        extra={name: default_collate(values) for name, values in extra.items()},
    )


def _init_worker(_: int) -> None:
    # One thread per worker: the workers are the parallelism.
    enter_worker(SAVING_STATE_S)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def views_per_process(cfg: CfgNode, processes: int = 1) -> int:
    """Views that one of a machine's ``processes`` puts through the network at once in a test.

    This is the meaning of TEST.BATCH_SIZE: views over the processes of a machine.
    """
    return max(cfg.TEST.BATCH_SIZE // processes, 1)


def videos_per_process(cfg: CfgNode, split: str, processes: int = 1, views: int = 1) -> int:
    """Videos that one of a machine's ``processes`` reads for a batch."""
    if split == "test":
        return max(views_per_process(cfg, processes) // views, 1)
    return max(cfg.TRAIN.BATCH_SIZE // processes, 1)


def construct_loader(
    cfg: CfgNode,
    split: str,
    runtime: Runtime | None = None,
    dataset: VideoDataset | None = None,
    batch_size: int | None = None,
    collate_fn: Callable[[list[Any]], Batch] = collate,
) -> DataLoader:
    """The loader of ``train``, ``val`` or ``test`` for this process.

    ``batch_size``: samples per batch, where it is not that of the configuration. The loader's
    ``batch_sampler.set_epoch`` chooses the epoch. UserError if a training list is smaller than
    one batch.
    """
    runtime = runtime or Runtime(torch.device("cpu"))
    dataset = dataset or build_dataset(cfg, split)
    size = batch_size or videos_per_process(
        cfg, split, runtime.local_world, dataset.views_per_video
    )
    batches = _batch_sampler(cfg, split, runtime, dataset, size)
    if split == "train" and len(batches) == 0:
        raise UserError(
            f"a step takes {size * runtime.world} videos, but {dataset.item_list.source} has "
            f"{len(dataset)}",
            "lower TRAIN.BATCH_SIZE",
            "TRAIN.BATCH_SIZE",
        )
    workers = min(cfg.DATA_LOADER.NUM_WORKERS, len(batches))
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate_fn,
        num_workers=workers,
        pin_memory=cfg.DATA_LOADER.PIN_MEMORY and runtime.on_gpu,
        worker_init_fn=_init_worker,
        persistent_workers=workers > 0,
        # Of its own: torch's global generator, which dropout draws from, must not depend on
        # how often workers were started.
        generator=torch.Generator().manual_seed(cfg.RNG_SEED),
        prefetch_factor=cfg.DATA_LOADER.PREFETCH_FACTOR if workers else None,
    )


def _batch_sampler(
    cfg: CfgNode, split: str, runtime: Runtime, dataset: VideoDataset, size: int
) -> EpochBatchSampler:
    """The sampler that the configuration names; evaluation reads every sample once, in order."""
    train = split == "train"
    kind = EpochBatchSampler
    if train:
        kind = BATCH_SAMPLER_REGISTRY.get(cfg.DATA.BATCH_SAMPLER)
    return kind(
        len(dataset),
        size,
        train=train,
        seed=cfg.RNG_SEED,
        rank=runtime.rank,
        world=runtime.world,
        labels=getattr(dataset, "labels", ()),
    )
