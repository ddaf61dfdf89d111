"""Items become samples: the same ones on any worker, all views from one decode."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from slowfast.datasets import clip_reader
from slowfast.datasets.base import SampleKey
from slowfast.datasets.batch import BadItem
from slowfast.datasets.batch_samplers import EpochBatchSampler
from slowfast.datasets.build import build_dataset
from slowfast.datasets.loader import construct_loader
from slowfast.utils.errors import UserError, VideoError
from slowfast.video import clip_ops
from slowfast.video.sampler import SegmentSampler
from slowfast.video.source import open_source, open_video
from tests.conftest import SHARED_CLIPS, noise_clip

AUGMENTED = {
    "AUG.ENABLE": True,
    "AUG.NUM_SAMPLE": 2,
    "AUG.RE_PROB": 0.5,
    "DATA.TRAIN_JITTER_SCALES_RELATIVE": [0.3, 1.0],
    "DATA.TRAIN_JITTER_ASPECT_RELATIVE": [0.75, 1.33],
}


def test_train_sample(make_cfg):
    dataset = build_dataset(make_cfg(AUGMENTED), "train")
    sample = dataset[SampleKey(0, 3)]
    assert sample["video"].shape == (2, 3, 4, 32, 32) and sample["video"].dtype == torch.uint8
    assert sample["boxes"].shape == (2, 1, 5)
    assert not torch.equal(sample["video"][0], sample["video"][1])
    assert sample["label"] == dataset.items[3].label and sample["index"] == 3


def test_sample_depends_on_seed_epoch_and_index_only(make_cfg):
    dataset = build_dataset(make_cfg(AUGMENTED), "train")
    first = dataset[SampleKey(1, 2)]
    dataset[SampleKey(0, 5)]  # other samples in between change nothing
    again = build_dataset(make_cfg(AUGMENTED), "train")[SampleKey(1, 2)]
    assert torch.equal(first["video"], again["video"])
    assert torch.equal(first["boxes"], again["boxes"])
    assert not torch.equal(first["video"], dataset[SampleKey(2, 2)]["video"])
    other_seed = build_dataset(make_cfg(AUGMENTED | {"RNG_SEED": 9}), "train")
    assert not torch.equal(first["video"], other_seed[SampleKey(1, 2)]["video"])


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers(make_cfg, workers):
    def batches(count):
        loader = construct_loader(make_cfg(AUGMENTED | {"DATA_LOADER.NUM_WORKERS": count}), "train")
        result = []
        for epoch in range(2):  # the second epoch runs on the same workers
            loader.batch_sampler.set_epoch(epoch)
            result += [(b.video, b.label, b.boxes) for b in loader]
        return result

    for ours, theirs in zip(batches(workers), batches(0), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs))


def test_validation_is_deterministic_and_central(make_cfg):
    dataset = build_dataset(make_cfg(), "val")
    item = dataset.items[0]
    opened = open_video(item.path)
    (clip,) = opened.frames([dataset.reader.sampler.val_indices(opened.num_frames, opened.fps)])
    clip = clip_ops.resize_short_side(clip, 32)
    box = clip_ops.uniform_crop_box(*clip.shape[1:3], 32, 1)
    expected = torch.from_numpy(clip_ops.crop(clip, box).copy()).permute(3, 0, 1, 2)
    assert torch.equal(dataset[0]["video"], expected)
    assert torch.equal(dataset[SampleKey(7, 0)]["video"], expected)


def test_all_views_come_from_one_decode(make_cfg, monkeypatch):
    dataset = build_dataset(make_cfg({"DATA.SAMPLING": "clip", "DATA.SAMPLING_RATE": 2}), "test")
    calls = []
    monkeypatch.setattr(clip_reader, "open_source", lambda *a: calls.append(a) or open_source(*a))
    views = dataset[1]["video"]
    assert len(calls) == 1 and views.shape == (2 * 3, 3, 4, 32, 32)
    # view k of K and crop c, as the reference numbers them, each computed by itself
    opened = open_video(dataset.items[1].path)
    for number, view in enumerate(views):
        indices = dataset.reader.sampler.test_indices(opened.num_frames, opened.fps, 2)[number // 3]
        clip = clip_ops.resize_short_side(opened.frames([indices])[0], 32)
        box = clip_ops.uniform_crop_box(*clip.shape[1:3], 32, number % 3)
        expected = torch.from_numpy(clip_ops.crop(clip, box).copy()).permute(3, 0, 1, 2)
        assert torch.equal(view, expected)


def test_batches_keep_copies_together(make_cfg):
    batch = next(iter(construct_loader(make_cfg(AUGMENTED), "train")))
    assert batch.video.shape == (8, 3, 4, 32, 32)
    assert batch.index[0::2].tolist() == batch.index[1::2].tolist()
    assert len(batch.path) == 8 and batch.boxes.shape == (8, 1, 5)


def test_batch_memory_is_channels_last(make_cfg):
    batch = next(iter(construct_loader(make_cfg(), "train")))
    assert batch.video.movedim(1, -1).is_contiguous()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_test_video_once_over_ranks(world):
    seen = [
        key.index
        for rank in range(world)
        for batch in EpochBatchSampler(10, 4, train=False, seed=0, rank=rank, world=world)
        for key in batch
    ]
    assert sorted(seen) == list(range(10))


def test_ranks_share_the_global_batches_of_one_process():
    def batches(size, rank, world):
        return [
            [key.index for key in batch]
            for batch in EpochBatchSampler(11, size, train=True, seed=3, rank=rank, world=world)
        ]

    alone = batches(4, 0, 1)
    two = [a + b for a, b in zip(batches(2, 0, 2), batches(2, 1, 2))]
    assert alone == two and len(alone) == 2


def test_resumed_epoch_goes_on_where_it_stopped():
    whole = EpochBatchSampler(20, 4, train=True, seed=3)
    whole.set_epoch(5)
    rest = EpochBatchSampler(20, 4, train=True, seed=3)
    rest.set_epoch(5, skip=2)
    assert list(whole)[2:] == list(rest)
    other = EpochBatchSampler(20, 4, train=True, seed=3)
    other.set_epoch(6)
    assert list(whole) != list(other)


def broken_list(shapes, folder, extra: list[str]):
    lines = (shapes / "train.csv").read_text().splitlines()
    prefixed = [f"{shapes}/{line}" for line in lines]
    (folder / "train.csv").write_text("\n".join(prefixed + extra) + "\n")
    return {
        "TRAIN.DATASET": "kinetics",
        "DATA.PATH_TO_DATA_DIR": str(folder),
        "MODEL.NUM_CLASSES": 4,
    }


def test_a_broken_video_is_reported_not_replaced(make_cfg, shapes, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    words = broken_list(shapes, tmp_path, [f"{tmp_path}/bad.mp4 1"])
    dataset = build_dataset(make_cfg(words), "train")
    bad = dataset[16]
    assert isinstance(bad, BadItem)
    assert (bad.index, bad.line, bad.path) == (16, 17, f"{tmp_path}/bad.mp4") and bad.cause
    loader = construct_loader(make_cfg(words | {"TRAIN.BATCH_SIZE": 17}), "train")
    batch = next(iter(loader))
    assert batch.size == 16 and [b.index for b in batch.bad] == [16]
    strict = build_dataset(make_cfg(words | {"DATA.ON_ERROR": "raise"}), "train")
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        strict[16]


def test_list_problems_come_together(make_cfg, shapes, tmp_path):
    words = broken_list(shapes, tmp_path, ["x.mp4 9", "y.mp4 -1"])
    with pytest.raises(UserError) as caught:
        build_dataset(make_cfg(words), "train")
    text = str(caught.value)
    assert "train.csv:17" in text and "train.csv:18" in text and "MODEL.NUM_CLASSES is 4" in text


def test_class_names_travel_with_the_list(make_cfg):
    dataset = build_dataset(make_cfg(), "train")
    assert dataset.class_names == ["left", "right", "up", "down"]
    with pytest.raises(UserError, match="set MODEL.NUM_CLASSES 4"):
        build_dataset(make_cfg({"MODEL.NUM_CLASSES": 5}), "train")


def test_batch_larger_than_the_list(make_cfg):
    with pytest.raises(UserError, match="TRAIN.BATCH_SIZE"):
        construct_loader(make_cfg({"TRAIN.BATCH_SIZE": 64}), "train")


@pytest.fixture
def something(tmp_path):
    """Two frame folders and lists in UniFormer's form."""
    for name, count in (("11", 9), ("12", 5)):
        folder = tmp_path / "frames" / name
        folder.mkdir(parents=True)
        for n, image in enumerate(noise_clip(count, 40, 60), 1):
            cv2.imwrite(str(folder / f"{name}_{n:06d}.jpg"), image[..., ::-1])
    (tmp_path / "v2_train.txt").write_text("11 9 1\n12 5 0\n")
    (tmp_path / "v2_validation.txt").write_text("12 5 0\n")
    return {
        "TRAIN.DATASET": "sth",
        "TEST.DATASET": "sth",
        "DATA.PATH_TO_DATA_DIR": str(tmp_path),
        "DATA.PATH_PREFIX": str(tmp_path / "frames"),
        "DATA.LABEL_PATH_TEMPLATE": "v2_{}.txt",
        "DATA.IMAGE_TEMPLATE": "{video}_{:06d}.jpg",
        "DATA.SAMPLING": "auto",
        "TRAIN.BATCH_SIZE": 2,
    }


def test_frame_folders_of_something(make_cfg, something):
    cfg = make_cfg(something)
    train, test = build_dataset(cfg, "train"), build_dataset(cfg, "test")
    assert isinstance(train.reader.sampler, SegmentSampler) and train.published_bgr
    assert train[0]["video"].shape == (3, 4, 32, 32)
    assert test[0]["video"].shape == (6, 3, 4, 32, 32)
    # published: with one crop, too, the short side equals the crop
    one = build_dataset(make_cfg(something | {"TEST.NUM_SPATIAL_CROPS": 1}), "test")
    assert one.reader.pipeline.short_side == 32


def test_frame_folder_shorter_than_listed(make_cfg, something, tmp_path):
    (tmp_path / "v2_train.txt").write_text("11 30 1\n12 5 0\n")
    bad = build_dataset(make_cfg(something), "train")[0]
    assert isinstance(bad, BadItem) and "is missing" in bad.cause


def test_class_folder_splits(make_cfg, tmp_path, video):
    for part in ("train/x", "train/y", "val/x", "val/y"):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "a.mp4").write_bytes(video.read_bytes())
    words = {
        "TRAIN.DATASET": "folder",
        "TEST.DATASET": "folder",
        "MODEL.NUM_CLASSES": 2,
        "DATA.PATH_TO_DATA_DIR": str(tmp_path),
    }
    train = build_dataset(make_cfg(words), "train")
    test = build_dataset(make_cfg(words), "test")
    assert train.class_names == ["x", "y"] and len(train) == 2
    assert test.items[0].path.startswith(str(tmp_path / "val"))


def test_real_single_clips(make_cfg):
    folder = SHARED_CLIPS / "single"
    if not folder.is_dir():
        pytest.skip(f"needs the real clips in {folder}")
    cfg = make_cfg(
        {
            "TRAIN.DATASET": "folder",
            "TEST.DATASET": "folder",
            "DATA.SAMPLING": "clip",
            "DATA.PATH_TO_DATA_DIR": str(folder),
            "MODEL.NUM_CLASSES": sum(p.is_dir() for p in folder.iterdir()),
        }
    )
    dataset = build_dataset(cfg, "test")
    for index in range(0, len(dataset), 3):
        views = dataset[index]["video"]
        assert views.shape == (6, 3, 4, 32, 32)
        assert views.float().std() > 5


def test_reversed_pairs_hold_the_same_frames(shapes):
    forward = open_video(str(shapes / "videos/train/left_0000.mp4"))
    backward = open_video(str(shapes / "videos/train/right_0000.mp4"))
    (a,), (b,) = forward.frames([range(24)]), backward.frames([range(24)])
    assert np.abs(a.astype(int) - b[::-1]).mean() < 4  # two encodings of the same frames
    assert np.abs(a.astype(int) - b).mean() > 4
