"""Batch samplers: which process reads which samples in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from slowfast.config.node import CfgNode
from slowfast.datasets.base import SampleKey, SampleSource
from slowfast.utils.registry import Registry
from slowfast.utils.seeding import sample_rng

BATCH_SAMPLER_REGISTRY: Registry[type[EpochBatchSampler]] = Registry(
    "batch sampler", "DATA.BATCH_SAMPLER"
)


@BATCH_SAMPLER_REGISTRY.register("shuffle")
class EpochBatchSampler(Sampler[list[SampleKey]]):
    """Batches of sample keys: a function of (seed, epoch) and nothing else.

    Training: the order of :meth:`train_order`, cut into global batches of ``batch_size * world``;
    the last incomplete one is left out. Otherwise: every sample once over all ranks, in order.
    ``labels`` are those of the samples, where the data set has them.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        train: bool,
        seed: int,
        rank: int = 0,
        world: int = 1,
        labels: Sequence[int] = (),
    ):
        self.length, self.batch_size, self.train = length, batch_size, train
        self.seed, self.rank, self.world, self.labels = seed, rank, world, labels
        self.epoch = 0
        self.skip = 0  # batches of this epoch that a resumed run has seen already

    def configure(self, cfg: CfgNode, dataset: SampleSource) -> None:
        """Called once by the loader, for an order that depends on more than labels."""

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Choose the epoch, and how many of its batches are left out at its start."""
        self.epoch, self.skip = epoch, skip

    def train_order(self, rng: np.random.Generator) -> list[int]:
        """Indices of a training epoch over all ranks, ``length`` of them; a subclass may choose
        others, drawing from ``rng`` alone."""
        return rng.permutation(self.length).tolist()

    def order(self) -> list[int]:
        """Indices of the epoch over all ranks."""
        if not self.train:
            return list(range(self.length))
        return self.train_order(sample_rng(self.seed, self.epoch, 0, "order"))

    def __len__(self) -> int:
        if self.train:
            return self.length // (self.batch_size * self.world)
        local = len(range(self.rank, self.length, self.world))
        return -(-local // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order, size = self.order(), self.batch_size
        if not self.train:
            order = order[self.rank :: self.world]
        for batch in range(self.skip, len(self)):
            start = batch * size
            if self.train:
                start = (batch * self.world + self.rank) * size
            yield [SampleKey(self.epoch, index) for index in order[start : start + size]]


@BATCH_SAMPLER_REGISTRY.register("class_balanced")
class ClassBalancedSampler(EpochBatchSampler):
    """Every class equally often (up to one sample) in an epoch of the usual length.

    Samples of rare classes come several times, those of frequent ones not in every epoch.
    """

    def train_order(self, rng: np.random.Generator) -> list[int]:
        labels = np.asarray(self.labels)
        classes = rng.permutation(np.unique(labels))
        counts = np.full(len(classes), self.length // len(classes))
        counts[: self.length % len(classes)] += 1
        chosen = [
            _repeat(np.flatnonzero(labels == label), count, rng)
            for label, count in zip(classes, counts)
        ]
        return rng.permutation(np.concatenate(chosen)).tolist()


def _repeat(indices: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` of ``indices``: whole shuffled passes, then a part of one."""
    passes = [rng.permutation(indices) for _ in range(-(-count // len(indices)))]
    return np.concatenate([*passes, indices[:0]])[:count]
