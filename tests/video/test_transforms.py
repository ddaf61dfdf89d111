"""Own clip transforms: order, draws, options, and what they may not do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from slowfast.datasets.base import SampleKey
from slowfast.datasets.build import build_dataset
from slowfast.utils.errors import UserError
from slowfast.video import transforms
from slowfast.video.transforms import (
    TRANSFORM_REGISTRY,
    ClipTransforms,
    build_transforms,
    grayscale,
    parse_transform,
    shuffle_time,
)

AUGMENTED = {"AUG.ENABLE": True, "AUG.NUM_SAMPLE": 2, "AUG.RE_PROB": 0.5}


@pytest.fixture
def register(monkeypatch):
    """``register(name, function)`` for the time of one test."""
    return lambda name, fn: monkeypatch.setitem(TRANSFORM_REGISTRY._objects, name, fn)


def clip(num_frames: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (6, 8, 3), dtype=np.uint8) for _ in range(num_frames)]


def test_nothing_to_do_costs_nothing():
    sample = ClipTransforms("train").for_sample(1, 2, 3)
    frames, video = clip(), torch.zeros(3, 2, 4, 4, dtype=torch.uint8)
    assert sample.before(frames) is frames and sample.after(video) is video
    assert ClipTransforms("val").for_sample(9, 9, 9) is sample


def test_order_options_and_split(register):
    register("add", lambda frames, rng, split, n=1: frames + np.uint8(n))
    register("double", lambda frames, rng, split: frames * np.uint8(2))
    texts = ("add:n=3", "double", "add")
    steps = tuple((text, parse_transform(text, "")) for text in texts)
    frames = [np.full((2, 2, 3), 5, np.uint8)]
    (result,) = ClipTransforms("train", before=steps).for_sample(0, 0, 0).before(frames)
    assert (result == 17).all() and (frames[0] == 5).all()


def test_published_pipeline_draws_the_same_numbers(make_cfg, register):
    """A transform that draws and changes nothing leaves every sample as it is."""

    def draw(frames, rng, split):
        rng.random(7)
        return frames

    register("draw", draw)
    extra = {"DATA.TRANSFORMS_BEFORE": "['draw']", "DATA.TRANSFORMS_AFTER": "['draw', 'draw']"}
    for split in ("train", "val", "test"):
        plain, own = (build_dataset(make_cfg(AUGMENTED | e), split) for e in ({}, extra))
        a, b = plain[SampleKey(3, 1)], own[SampleKey(3, 1)]
        assert torch.equal(a["video"], b["video"]), split
        assert split != "train" or torch.equal(a["boxes"], b["boxes"])


def test_sample_fixes_the_draws(make_cfg):
    cfg = make_cfg({"DATA.TRANSFORMS_BEFORE": "['reverse_time:prob=0.5']"})
    dataset = build_dataset(cfg, "train")
    first = [dataset[SampleKey(epoch, 0)]["video"] for epoch in range(6)]
    again = [dataset[SampleKey(epoch, 0)]["video"] for epoch in range(6)]
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    plain = build_dataset(make_cfg(), "train")
    backwards = 0
    for epoch, video in enumerate(first):
        usual = plain[SampleKey(epoch, 0)]["video"]
        forwards = torch.equal(video, usual)
        assert forwards or torch.equal(video, usual.flip(1))
        backwards += not forwards
    assert 0 < backwards < 6


def test_every_view_by_itself(make_cfg, register):
    """After the pipeline: each clip ``3 T S S`` of a test video, in order."""
    shapes = []

    def note(video, rng, split):
        shapes.append((tuple(video.shape), split))
        return video + len(shapes)

    register("note", note)
    plain = build_dataset(make_cfg(), "test")[SampleKey(0, 0)]["video"]
    cfg = make_cfg({"DATA.TRANSFORMS_AFTER": "['note']"})
    video = build_dataset(cfg, "test")[SampleKey(0, 0)]["video"]
    assert shapes == [((3, 4, 32, 32), "test")] * 6
    for number in range(6):
        assert torch.equal(video[number], plain[number] + number + 1)


def test_frames_in_random_order():
    """The same frames; the order depends on the sample alone."""
    frames = np.stack(clip(9))
    steps = (("shuffle_time", shuffle_time),)
    first, again, other = (
        np.stack(ClipTransforms("test", before=steps).for_sample(0, 0, index).before(frames))
        for index in (5, 5, 6)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert not np.array_equal(first, frames)
    assert sorted(frame.tobytes() for frame in first) == sorted(f.tobytes() for f in frames)


def test_grayscale_by_hand():
    frames = np.array([[[[255, 0, 0], [0, 255, 0], [10, 20, 30]]]], dtype=np.uint8)
    gray = grayscale(frames, np.random.default_rng(0), "test")
    assert gray[0, 0, :, 0].tolist() == [76, 150, 18] and (gray == gray[..., :1]).all()
    assert grayscale(frames, np.random.default_rng(0), "test", prob=0.0) is frames


@pytest.mark.parametrize(
    "text, key, message",
    [
        ("reverse_tim", "DATA.TRANSFORMS_BEFORE", "did you mean reverse_time"),
        ("grayscale:share=1", "DATA.TRANSFORMS_AFTER", "unexpected keyword argument 'share'"),
        ("grayscale:prob", "DATA.TRANSFORMS_BEFORE", "name:option=value"),
    ],
)
def test_wrong_names_and_options(make_cfg, text, key, message):
    with pytest.raises(UserError) as caught:
        make_cfg({key: [text]})
    (problem,) = caught.value.problems
    assert problem.key == key and message in str(problem)


@pytest.mark.parametrize(
    "result",
    [
        lambda frames: frames.astype(np.float32),
        lambda frames: frames[:-1],
        lambda frames: frames[..., :1],
        lambda frames: frames[0],
    ],
)
def test_wrong_frames_name_the_transform(register, result):
    register("wrong", lambda frames, rng, split: result(frames))
    step = ("wrong", parse_transform("wrong", ""))
    with pytest.raises(UserError, match="the transform wrong gave"):
        ClipTransforms("train", before=(step,)).for_sample(0, 0, 0).before(clip())


@pytest.mark.parametrize("result", [lambda v: v.float(), lambda v: v[:, :1], lambda v: v.numpy()])
def test_wrong_clips_name_the_transform(register, result):
    register("wrong", lambda video, rng, split: result(video))
    step = ("wrong", parse_transform("wrong", ""))
    with pytest.raises(UserError, match="the transform wrong gave"):
        video = torch.zeros(3, 4, 8, 8, dtype=torch.uint8)
        ClipTransforms("train", after=(step,)).for_sample(0, 0, 0).after(video)


def test_names_are_choices_of_both_keys(make_cfg):
    from slowfast.config.load import explain_key

    for key in transforms.KEYS:
        assert "'grayscale'" in explain_key(key)
    assert build_transforms(make_cfg(), "train").before == ()
