"""Batches of multigrid training, and the clips in them."""

from __future__ import annotations

import pytest
import torch

from slowfast.datasets.base import SampleKey
from slowfast.datasets.batch_samplers import ClassBalancedSampler, EpochBatchSampler
from slowfast.datasets.build import build_dataset
from slowfast.datasets.clip_reader import ClipSize
from slowfast.datasets.multigrid import BatchForm, Phase, phase_of
from slowfast.video.sampler import ClipSampler

A, B, C = (ClipSize(frames, crop, (2, 2)) for frames, crop in ((2, 16), (2, 24), (4, 32)))
PHASES = [
    Phase(0, (BatchForm(4, A), BatchForm(1, B)), 2),
    Phase(0, (BatchForm(1, C),), 2),  # no epoch is left for it
    Phase(1, (BatchForm(2, B), BatchForm(1, C)), 5),
]


def sampler(length=23, size=2, kind=EpochBatchSampler, **options):
    made = kind(length, size, train=True, seed=3, labels=[i % 3 for i in range(length)], **options)
    made.phases = PHASES
    return made


def indices(batches):
    return [key.index for batch in batches for key in batch]


def test_batches_take_the_forms_in_turn():
    batches = sampler()
    assert [len(batch) for batch in batches] == [8, 2, 8, 2] and len(batches) == 4
    assert [batch[0].size for batch in batches] == [A, B, A, B]
    assert all(len({key.size for key in batch}) == 1 for batch in batches)
    batches.set_epoch(2)
    assert [len(batch) for batch in batches] == [4, 2] * 3 + [4] and len(batches) == 7
    batches.set_epoch(2, one_form=True)
    assert [len(batch) for batch in batches] == [2] * 11 == [2] * len(batches)
    assert {key.size for batch in batches for key in batch} == {C}


@pytest.mark.parametrize("kind", [EpochBatchSampler, ClassBalancedSampler])
def test_the_order_is_that_of_batches_of_one_form(kind):
    batches, plain = sampler(kind=kind), sampler(kind=kind)
    plain.phases = ()
    assert indices(batches) == plain.order()[:20]


@pytest.mark.parametrize("epoch", [0, 4])
def test_a_resumed_epoch_skips_batches(epoch):
    batches = sampler()
    batches.set_epoch(epoch)
    whole = list(batches)
    for skip in range(len(whole) + 1):
        batches.set_epoch(epoch, skip=skip)
        assert list(batches) == whole[skip:]


def test_positions_are_counted_in_videos():
    """Batches of 8 and 2 videos in turn, from the third epoch on of 4 and 2."""
    batches = sampler()
    assert [batches.videos_before(0, batch) for batch in range(5)] == [0, 8, 10, 18, 20]
    assert [batches.batches_within(0, videos) for videos in (7, 8, 9, 10, 20)] == [0, 1, 1, 2, 4]
    assert [batches.videos_before(2, batch) for batch in range(5)] == [0, 4, 6, 10, 12]
    for epoch in (0, 2):
        batches.set_epoch(epoch)
        order = batches.order()
        for skip in range(len(batches)):
            batches.set_epoch(epoch, skip)
            assert indices(batches)[0] == order[batches.videos_before(epoch, skip)]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_divide_each_batch(world):
    whole = list(sampler(length=40, size=6))
    ranks = [list(sampler(40, 6 // world, rank=rank, world=world)) for rank in range(world)]
    assert [sum(parts, []) for parts in zip(*ranks, strict=True)] == whole


def test_phases_without_epochs_are_passed_over():
    found = [PHASES.index(phase_of(PHASES, epoch)) for epoch in range(6)]
    assert found == [0, 0, 2, 2, 2, 2]


@pytest.mark.parametrize("device", ["workers", "network"])
def test_clips_have_the_size_of_their_key(make_cfg, device):
    """Without a size: that of the configuration."""
    dataset = build_dataset(make_cfg({"AUG.DEVICE": device}), "train")
    small = dataset[SampleKey(1, 2, ClipSize(2, 24, (8, 8)))]["video"]
    assert small.shape[1] == 2 and (device == "network" or small.shape[2:] == (24, 24))
    plain = dataset[SampleKey(1, 2)]["video"]
    same = dataset[SampleKey(1, 2, ClipSize(4, 32, (8, 8)))]["video"]
    assert plain.shape[1] == 4 and torch.equal(plain, same)


def test_frames_are_resized_to_less_for_smaller_crops(make_cfg):
    """The lowest short side shrinks as the crop does, the highest stays: a crop may see more."""
    reader = build_dataset(make_cfg({"DATA.TRAIN_JITTER_SCALES": [40, 50]}), "train").reader
    small = reader._of_size(ClipSize(4, 16, (8, 8)), 0, 0)
    assert small.pipeline.scales == [20, 50] and small.pipeline.size == 16
    assert reader.pipeline.scales == [40, 50] and reader.pipeline.size == 32


def test_rates_are_drawn_anew_for_each_clip(make_cfg):
    """From the lowest to the highest, both included: functions of seed, epoch and sample."""
    cfg = make_cfg({"DATA.SAMPLING": "clip", "DATA.SAMPLING_RATE": 3})
    reader, size = build_dataset(cfg, "train").reader, ClipSize(2, 16, (3, 6))
    samplers = [reader._of_size(size, 0, index).sampler for index in range(60)]
    assert all(isinstance(sampler, ClipSampler) for sampler in samplers)
    rates = [sampler.shape.rate for sampler in samplers]
    assert set(rates) == {3, 4, 5, 6}
    again = build_dataset(cfg, "train").reader
    assert rates == [again._of_size(size, 0, index).sampler.shape.rate for index in range(60)]
    assert rates != [reader._of_size(size, 1, index).sampler.shape.rate for index in range(60)]
