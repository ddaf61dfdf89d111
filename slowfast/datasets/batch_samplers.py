"""Batch samplers: which process reads which samples in which order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from slowfast.config.node import CfgNode
from slowfast.datasets.base import SampleKey, SampleSource
from slowfast.datasets.multigrid import BatchShape, Phase, phase_of
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

    ``phases`` of a multigrid training say which shapes the batches of an epoch take in turn; empty:
    all are alike. ``keeps_to_shards``: the training order reads from a few shards at a time.
    """

    keeps_to_shards = False

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
        self.one_shape = False
        self.phases: Sequence[Phase] = ()

    def configure(self, cfg: CfgNode, dataset: SampleSource) -> None:
        """Called once by the loader, for an order that depends on more than labels."""

    def set_epoch(self, epoch: int, skip: int = 0, one_shape: bool = False) -> None:
        """Choose the epoch, and how many of its batches are left out at its start; ``one_shape``:
        all batches have the last of the shapes of the epoch."""
        self.epoch, self.skip, self.one_shape = epoch, skip, one_shape

    def train_order(self, rng: np.random.Generator) -> list[int]:
        """Indices of a training epoch over all ranks, ``length`` of them; a subclass may choose
        others, drawing from ``rng`` alone."""
        return rng.permutation(self.length).tolist()

    def order(self) -> list[int]:
        """Indices of the epoch over all ranks."""
        if not self.train:
            return list(range(self.length))
        return self.train_order(sample_rng(self.seed, self.epoch, 0, "order"))

    def shapes(self) -> Sequence[BatchShape]:
        """The shapes that the training batches of the epoch take in turn."""
        shapes = self._shapes_of(self.epoch)
        return shapes[-1:] if self.one_shape else shapes

    def _shapes_of(self, epoch: int) -> Sequence[BatchShape]:
        return phase_of(self.phases, epoch).shapes if self.phases else (BatchShape(1, None),)

    @property
    def first_batch(self) -> int:
        """Videos over all ranks of the largest batch that an epoch begins with."""
        factor = max((phase.shapes[0].factor for phase in self.phases), default=1)
        return factor * self.batch_size * self.world

    @property
    def longest_epoch(self) -> int:
        """Batches of the epochs that have most."""
        counts = (self._batches_within(phase.shapes, self.length) for phase in self.phases)
        return max(counts, default=len(self))

    def __len__(self) -> int:
        if not self.train:
            local = len(range(self.rank, self.length, self.world))
            return -(-local // self.batch_size)
        return self._batches_within(self.shapes(), self.length)

    def videos_before(self, epoch: int, batch: int) -> int:
        """Videos over all ranks of the training batches of ``epoch`` before number ``batch``."""
        starts = self._starts(self._shapes_of(epoch))
        cycles, number = divmod(batch, len(starts) - 1)
        return cycles * starts[-1] + starts[number]

    def batches_within(self, epoch: int, videos: int) -> int:
        """Training batches of ``epoch`` that the first ``videos`` over all ranks fill."""
        return self._batches_within(self._shapes_of(epoch), videos)

    def _batches_within(self, shapes: Sequence[BatchShape], videos: int) -> int:
        starts = self._starts(shapes)
        cycles, rest = divmod(videos, starts[-1])
        return cycles * (len(starts) - 1) + sum(start <= rest for start in starts[1:])

    def _starts(self, shapes: Sequence[BatchShape]) -> list[int]:
        """Where each batch of a cycle of shapes begins in the order over all ranks, and its end."""
        sizes = (shape.factor * self.batch_size * self.world for shape in shapes)
        return [0, *itertools.accumulate(sizes)]

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order = self.order()
        batches = range(self.skip, len(self))
        if not self.train:
            order, size = order[self.rank :: self.world], self.batch_size
            for batch in batches:
                part = order[batch * size : (batch + 1) * size]
                yield [SampleKey(self.epoch, index) for index in part]
            return
        shapes = self.shapes()
        starts = self._starts(shapes)
        for batch in batches:
            cycle, number = divmod(batch, len(shapes))
            factor, clip_size = shapes[number]
            size = factor * self.batch_size
            start = cycle * starts[-1] + starts[number] + self.rank * size
            yield [SampleKey(self.epoch, index, clip_size) for index in order[start : start + size]]


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
