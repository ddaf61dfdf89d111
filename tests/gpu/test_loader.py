"""The loader beside a GPU: page-locked batches, workers of every kind, augmentation on the GPU."""

from __future__ import annotations

import pytest
import torch

from slowfast.datasets.loader import construct_loader
from slowfast.utils.runtime import Runtime, gpu_count
from slowfast.video import randaugment
from slowfast.video.device_augment import apply_operation
from tests.video.test_device_augment import natural_clip, on_device

pytestmark = pytest.mark.skipif(gpu_count() == 0, reason="no GPU")
AUGMENTED = {
    "AUG.ENABLE": True,
    "AUG.NUM_SAMPLE": 2,
    "AUG.RE_PROB": 0.5,
    "DATA.TRAIN_JITTER_SCALES_RELATIVE": [0.3, 1.0],
}


@pytest.fixture
def runtime() -> Runtime:
    gpu = Runtime(torch.device("cuda", 0))
    torch.zeros(1, device=gpu.device)  # CUDA is in use before workers start
    return gpu


def batches_of(make_cfg, runtime=None, **words) -> list:
    cfg = make_cfg(AUGMENTED | words)
    loader = construct_loader(cfg, "train", runtime)
    passes = []
    for epoch in range(2):
        loader.batch_sampler.set_epoch(epoch)
        passes += list(loader)
    return passes


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_page_locked_batches_of_every_kind_of_worker(make_cfg, runtime, method):
    expected = batches_of(make_cfg)
    words = {"DATA_LOADER.NUM_WORKERS": 2, "DATA_LOADER.START_METHOD": method}
    arrived = []
    for batch in batches_of(make_cfg, runtime, **words):
        assert batch.video.is_pinned() and batch.boxes.is_pinned()
        arrived.append(batch.to(runtime.device))  # not waited for: memory must not be used again
    for ours, theirs in zip(arrived, expected, strict=True):
        assert ours.video.cpu().equal(theirs.video) and ours.boxes.cpu().equal(theirs.boxes)
        assert ours.video.stride() == theirs.video.stride()
        assert ours.index.tolist() == theirs.index.tolist() and ours.path == theirs.path


def test_in_the_main_process(make_cfg, runtime):
    batch = batches_of(make_cfg, runtime, **{"DATA_LOADER.NUM_WORKERS": 0})[0]
    assert batch.video.is_pinned()


@pytest.mark.parametrize("op", sorted({*randaugment.BASIC, *randaugment.INCREASING}))
def test_every_operation_on_the_gpu(op, runtime):
    for magnitude, negate in ((0.4, False), (7.0, True)):
        args = randaugment.level_argument(op, magnitude, negate)
        frames = on_device(natural_clip())
        host = apply_operation((op, args), frames)
        device = apply_operation((op, args), frames.to(runtime.device)).cpu()
        assert (host.int() - device.int()).abs().max() <= 1, args


def test_augmentation_on_the_gpu_is_that_of_the_workers(make_cfg, runtime):
    words = {"AUG.AA_TYPE": "", "DATA_LOADER.NUM_WORKERS": 2}
    expected = batches_of(make_cfg, **words)
    ours = batches_of(make_cfg, runtime, **words | {"AUG.DEVICE": "network"})
    for a, b in zip(ours, expected, strict=True):
        assert all(frames.is_pinned() for frames in a.video.frames)
        video = a.video.to(runtime.device, non_blocking=True)
        assert video.stride() == b.video.stride()
        assert (video.cpu().int() - b.video.int()).abs().max() <= 1


def test_randaugment_on_the_gpu(make_cfg, runtime):
    """Whole policies: a rounding before a table may be a large difference after it, but rarely."""
    words = {"AUG.AA_TYPE": "rand-m7-n4-mstd0.5-inc1"}
    expected = batches_of(make_cfg, **words)
    ours = batches_of(make_cfg, runtime, **words | {"AUG.DEVICE": "network"})
    for a, b in zip(ours, expected, strict=True):
        distance = (a.video.to(runtime.device).cpu().int() - b.video.int()).abs().float()
        assert distance.mean() < 1
