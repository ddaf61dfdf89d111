"""Orders of training samples: functions of (seed, epoch), balanced where asked for."""

from __future__ import annotations

from collections import Counter

import pytest

from slowfast.datasets.batch_samplers import ClassBalancedSampler, EpochBatchSampler

LABELS = [0] * 12 + [1] * 3 + [2] * 1


def balanced(seed: int = 0, epoch: int = 0, **options) -> ClassBalancedSampler:
    sampler = ClassBalancedSampler(16, 4, train=True, seed=seed, labels=LABELS, **options)
    sampler.set_epoch(epoch)
    return sampler


def test_every_class_comes_equally_often():
    order = balanced().order()
    counts = Counter(LABELS[index] for index in order)
    assert len(order) == 16 and sorted(counts.values()) == [5, 5, 6]


def test_samples_repeat_as_seldom_as_possible():
    order = balanced().order()
    per_sample = Counter(index for index in order if LABELS[index] == 1)
    assert set(per_sample.values()) <= {1, 2} and len(per_sample) == 3
    frequent = [index for index in order if LABELS[index] == 0]
    assert len(frequent) == len(set(frequent))


def test_the_order_depends_on_seed_and_epoch_alone():
    assert balanced(1, 2).order() == balanced(1, 2).order()
    assert balanced(1, 2).order() != balanced(1, 3).order()
    assert balanced(1, 2).order() != balanced(2, 2).order()


def test_ranks_divide_each_batch():
    whole = [key.index for batch in balanced() for key in batch]
    parts = [balanced(rank=rank, world=2) for rank in range(2)]
    for part in parts:
        part.batch_size = 2
    together = [key.index for pair in zip(*parts) for batch in pair for key in batch]
    assert together == whole


def test_evaluation_is_in_order():
    sampler = EpochBatchSampler(5, 2, train=False, seed=0)
    assert [[key.index for key in batch] for batch in sampler] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("kind", [EpochBatchSampler, ClassBalancedSampler])
def test_a_resumed_epoch_skips_batches(kind):
    sampler = kind(16, 4, train=True, seed=3, labels=LABELS)
    sampler.set_epoch(1)
    whole = list(sampler)
    sampler.set_epoch(1, skip=3)
    assert list(sampler) == whole[3:]


def test_orders_stay_what_they_are():
    """A run that is resumed by a later version goes on in the order in which it began."""
    usual = EpochBatchSampler(12, 4, train=True, seed=3)
    balanced_one = ClassBalancedSampler(8, 4, train=True, seed=3, labels=[0] * 6 + [1] * 2)
    for sampler in (usual, balanced_one):
        sampler.set_epoch(2)
    assert usual.order() == [5, 9, 10, 6, 1, 3, 7, 11, 2, 4, 8, 0]
    assert balanced_one.order() == [7, 5, 6, 7, 3, 6, 1, 4]
