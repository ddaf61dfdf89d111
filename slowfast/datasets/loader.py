"""Loaders: which process reads which samples in which order, and how samples become batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Sampler

from slowfast.config.node import CfgNode
from slowfast.datasets.base import BadItem, Sample, SampleKey, VideoDataset
from slowfast.datasets.build import build_dataset
from slowfast.utils.errors import UserError
from slowfast.utils.runtime import Runtime
from slowfast.utils.seeding import sample_rng
from slowfast.utils.signals import ignore_signals_in_worker

Batch = dict[str, Any]


class EpochBatches(Sampler[list[SampleKey]]):
    """Batches of sample keys: a function of (seed, epoch) and nothing else.

    Training: a shuffled order, cut into global batches of ``batch_size * world``; the last
    incomplete one is left out. Otherwise: every sample once over all ranks, in order.
    """

    def __init__(
        self, length: int, batch_size: int, *, train: bool, seed: int, rank: int = 0, world: int = 1
    ):
        self.length, self.batch_size, self.train = length, batch_size, train
        self.seed, self.rank, self.world = seed, rank, world
        self.epoch = 0
        self.skip = 0  # batches of this epoch that a resumed run has seen already

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        self.epoch, self.skip = epoch, skip

    def order(self) -> list[int]:
        """Indices of the epoch over all ranks."""
        if not self.train:
            return list(range(self.length))
        rng = sample_rng(self.seed, self.epoch, 0, "order")
        return rng.permutation(self.length).tolist()

    def __len__(self) -> int:
        if self.train:
            return self.length // (self.batch_size * self.world)
        mine = len(range(self.rank, self.length, self.world))
        return -(-mine // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order, size = self.order(), self.batch_size
        if not self.train:
            order = order[self.rank :: self.world]
        for batch in range(self.skip, len(self)):
            start = batch * size
            if self.train:
                start = (batch * self.world + self.rank) * size
            yield [SampleKey(self.epoch, index) for index in order[start : start + size]]


def collate(samples: list[Sample | BadItem]) -> Batch:
    """Samples -> batch; copies of a video become neighbours, bad items stand apart.

    ``video`` is ``B C T H W`` (test: ``videos views C T H W``), or absent if all were bad.
    """
    good = [s for s in samples if not isinstance(s, BadItem)]
    bad = [s for s in samples if isinstance(s, BadItem)]
    batch: Batch = {"bad": bad + [item for s in good for item in s.get("replaced", ())]}
    if not good:
        return batch
    copies = good[0]["boxes"].shape[0] if "boxes" in good[0] else 1
    videos = torch.stack([s["video"].movedim(-4, -1) for s in good])
    if copies > 1:
        videos = videos.flatten(0, 1)
    batch["video"] = videos.movedim(-1, -4)
    for name in ("label", "index"):
        batch[name] = torch.tensor([s[name] for s in good for _ in range(copies)])
    batch["path"] = [s["path"] for s in good for _ in range(copies)]
    if "boxes" in good[0]:
        batch["boxes"] = torch.cat([s["boxes"] for s in good])
    return batch


def _init_worker(_: int) -> None:
    # One thread per worker: the workers are the parallelism.
    ignore_signals_in_worker()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def batch_size_per_process(cfg: CfgNode, split: str, processes: int = 1, views: int = 1) -> int:
    """Videos that one of a machine's ``processes`` reads for a batch; TEST counts views."""
    part = cfg.TEST if split == "test" else cfg.TRAIN
    return max(part.BATCH_SIZE // processes // views, 1)


def construct_loader(
    cfg: CfgNode,
    split: str,
    runtime: Runtime | None = None,
    dataset: VideoDataset | None = None,
    size: int | None = None,
    collate_fn: Callable[[list[Any]], Batch] = collate,
) -> DataLoader:
    """The loader of ``train``, ``val`` or ``test`` for this process, ``size`` samples a batch.

    Its ``batch_sampler.set_epoch`` chooses the epoch; UserError if a training list is
    smaller than one batch.
    """
    runtime = runtime or Runtime(torch.device("cpu"))
    dataset = dataset or build_dataset(cfg, split)
    size = size or batch_size_per_process(cfg, split, runtime.local_world, dataset.views_per_video)
    batches = EpochBatches(
        len(dataset),
        size,
        train=split == "train",
        seed=cfg.RNG_SEED,
        rank=runtime.rank,
        world=runtime.world,
    )
    if split == "train" and len(batches) == 0:
        raise UserError(
            f"{size * runtime.world} videos a step, but {dataset.list.source} has {len(dataset)}",
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
