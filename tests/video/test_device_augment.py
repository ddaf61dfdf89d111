"""Augmentation on the device: the same draws and, up to rounding, the same pixels as in workers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from slowfast.config.load import load_config
from slowfast.datasets.loader import construct_loader
from slowfast.engine.launch import launch
from slowfast.engine.run import run_job
from slowfast.utils.errors import UserError
from slowfast.video import randaugment
from slowfast.video.device_augment import Deferred, apply_operation, augment
from slowfast.video.pipelines import build_train_pipeline, to_tensor
from tests.conftest import noise_clip, words

# Operations that compute with fractions; the others are tables, which are equal.
ROUNDED = {"Color", "Sharpness", "Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"}


def natural_clip(frames: int = 3, height: int = 60, width: int = 90) -> list[np.ndarray]:
    """Frames with edges and smooth parts, none of which uses all grey levels."""
    rough = noise_clip(frames, height // 6, width // 6)
    clip = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC) for frame in rough]
    for number, frame in enumerate(clip):
        cv2.rectangle(frame, (10 + number, 12), (40, 45), (250, 30, 5), -1)
    return [np.clip(frame, 4, 251) for frame in clip]


def on_device(clip) -> torch.Tensor:
    return to_tensor(np.stack(clip)).movedim(0, 1)


def pixels(video: torch.Tensor) -> np.ndarray:
    """``T 3 H W`` -> ``T H W 3``, as integers that can be subtracted."""
    return video.movedim(1, -1).numpy().astype(int)


@pytest.mark.parametrize("op", sorted({*randaugment.BASIC, *randaugment.INCREASING}))
def test_every_operation(op):
    name = randaugment.plain_name(op)
    for clip in (natural_clip(), noise_clip(2, 41, 32)):
        for magnitude, negate in ((0.4, False), (3.7, True), (7.0, False), (10.0, True)):
            args = randaugment.level_argument(op, magnitude, negate)
            theirs = np.stack(randaugment.apply_op(op, clip, args)).astype(int)
            ours = pixels(apply_operation((op, args), on_device(clip)))
            largest = np.abs(ours - theirs).max()
            assert largest <= (name in ROUNDED), (args, largest)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_other_interpolations(mode):
    args = [17.0]
    theirs = np.stack(randaugment.apply_op("Rotate", natural_clip(), args, None, mode))
    ours = pixels(apply_operation(("Rotate", args), on_device(natural_clip()), mode))
    assert np.abs(ours - theirs).max() <= 1


def test_frames_of_one_colour_and_of_every_colour():
    """Tables that depend on the frame: nothing to stretch, nothing to equalise, one of each."""
    flat = np.full((1, 16, 16, 3), 77, np.uint8)
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    for op in ("AutoContrast", "Equalize", "Contrast"):
        args = [1.7] if op == "Contrast" else []
        for clip in (list(flat), list(ramp), [flat[0], ramp[0]]):
            theirs = np.stack(randaugment.apply_op(op, clip, args))
            assert np.array_equal(pixels(apply_operation((op, args), on_device(clip))), theirs)


PIPELINES = {
    "resized crop": {"DATA.TRAIN_JITTER_SCALES_RELATIVE": [0.3, 1.0]},
    "moving crop": {
        "DATA.TRAIN_JITTER_SCALES_RELATIVE": [0.3, 1.0],
        "DATA.TRAIN_JITTER_MOTION_SHIFT": True,
    },
    "short side": {"DATA.TRAIN_JITTER_SCALES": [34, 44]},
    "squeezed": {"DATA.TRAIN_JITTER_SCALES": [34, 44], "DATA.KEEP_ASPECT": False},
    "centre": {"DATA.TRAIN_JITTER_SCALES": [34, 44], "DATA.TRAIN_CROP_PLACE": "centre"},
    "multi-scale": {"DATA.TRAIN_MULTI_SCALE_CROP": [1.0, 0.875, 0.75]},
    "antialias": {"DATA.TRAIN_JITTER_SCALES": [34, 44], "DATA.ANTIALIAS": True},
}


@pytest.mark.parametrize("kind", PIPELINES)
@pytest.mark.parametrize("policy", ["", "rand-m7-n4-mstd0.5-inc1"])
def test_every_pipeline(make_cfg, kind, policy):
    pipeline = build_train_pipeline(
        make_cfg(PIPELINES[kind] | {"AUG.ENABLE": True, "AUG.AA_TYPE": policy})
    )
    clip, mirrored = natural_clip(), set()
    for seed in range(12):
        theirs, boxes, flag = pipeline(clip, np.random.default_rng(seed))
        draw = pipeline.draw(60, 90, np.random.default_rng(seed))
        assert draw.mirrored == flag and np.array_equal(draw.erasing, boxes)
        ours = augment(on_device(clip), draw, Deferred.of(pipeline, [draw]))
        distance = np.abs(pixels(ours) - theirs.movedim(0, -1).numpy().astype(int))
        # A difference of one level before a table of RandAugment may be a large one after it.
        assert distance.max() <= 1 or (policy and distance.mean() < 0.5), seed
        mirrored.add(flag)
    assert mirrored == {True, False}


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_workers(make_cfg, workers):
    common = {
        "AUG.ENABLE": True,
        "AUG.AA_TYPE": "",
        "AUG.NUM_SAMPLE": 2,
        "AUG.RE_PROB": 0.5,
        "DATA.TRAIN_JITTER_SCALES_RELATIVE": [0.3, 1.0],
        "DATA_LOADER.NUM_WORKERS": workers,
    }
    theirs, ours = (
        list(construct_loader(make_cfg(common | {"AUG.DEVICE": device}), "train"))
        for device in ("workers", "network")
    )
    for a, b in zip(theirs, ours, strict=True):
        assert b.video.shape == a.video.shape and len(b.video) == len(a.video)
        moved = b.to("cpu").video.to("cpu")
        assert moved.stride() == a.video.stride() and moved.dtype == torch.uint8
        assert (moved.int() - a.video.int()).abs().max() <= 1
        assert a.label.equal(b.label) and a.boxes.equal(b.boxes) and a.path == b.path


def test_mirrored_classes_keep_their_labels(make_cfg):
    """A clip that moves left is one that moves right when it is mirrored."""
    common = {"DATA.MIRROR_CLASSES": "names", "DATA.RANDOM_FLIP": True}
    theirs, ours = (
        next(iter(construct_loader(make_cfg(common | {"AUG.DEVICE": device}), "train")))
        for device in ("workers", "network")
    )
    assert theirs.label.equal(ours.label)
    assert (ours.video.to("cpu").int() - theirs.video.int()).abs().max() <= 1


def test_a_run(tiny_words, tmp_path):
    extra = {"AUG.ENABLE": True, "AUG.DEVICE": "network", "SOLVER.MAX_EPOCH": 1}
    cfg = load_config(overrides=words(tiny_words | extra | {"TEST.ENABLE": False}))
    launch(cfg, run_job)
    assert (tmp_path / cfg.OUTPUT_DIR / "checkpoints" / "checkpoint_epoch_00001.pyth").is_file()


def test_what_is_not_possible(tiny_words):
    for extra in ({"DATA.TRANSFORMS_AFTER": "['grayscale']"}, {"TASK": "fewshot"}):
        with pytest.raises(UserError, match="AUG.DEVICE"):
            load_config(overrides=words(tiny_words | {"AUG.DEVICE": "network"} | extra))
