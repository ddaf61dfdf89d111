"""Frame samplers by name: what each gives for training, validation and test."""

from __future__ import annotations

import numpy as np
import pytest

from slowfast.utils.errors import UserError
from slowfast.video import sampling
from slowfast.video.sampler import FRAME_SAMPLER_REGISTRY, FrameSampler, build_sampler

NAMES = ["clip", "linspace", "rate", "segment", "strided", "tsn"]


def test_names():
    assert sorted(FRAME_SAMPLER_REGISTRY) == NAMES


@pytest.mark.parametrize("num_frames", [1, 2, 5, 8, 33, 300])
@pytest.mark.parametrize("name", NAMES)
def test_indices_are_inside_and_ordered(make_cfg, num_frames, name):
    sampler = build_sampler(make_cfg({"DATA.SAMPLING": name, "DATA.NUM_FRAMES": 8}), "clip")
    rng = np.random.default_rng(0)
    clips = [sampler.train_indices(num_frames, 25.0, rng) for _ in range(20)]
    views = sampler.test_indices(num_frames, 25.0, 3)
    assert len(views) == 3
    for indices in [*clips, sampler.val_indices(num_frames, 25.0), *views]:
        assert len(indices) == 8
        assert indices.min() >= 0 and indices.max() < num_frames
        assert (np.diff(indices) >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_one_rule_per_name(make_cfg, name):
    """The rule of each name, spelt out for a video of 100 frames at 25 fps."""
    sampler = build_sampler(make_cfg({"DATA.SAMPLING": name, "DATA.NUM_FRAMES": 4}), "clip")
    shape = sampling.ClipShape(4, 8, 30.0)
    clip = [sampling.kinetics_clip(100, 25.0, shape, view, 2) for view in range(2)]
    middle = sampling.kinetics_clip(100, 25.0, shape, 0, 1, offset=True)
    segments = [sampling.segment_view(100, 4, view, 2) for view in range(2)]
    validation, test = {
        "clip": (middle, clip),
        "segment": (sampling.segment_view(100, 4, 0, 1), segments),
        "tsn": ([12, 37, 62, 87], [[12, 37, 62, 87]] * 2),
        "linspace": ([0, 33, 66, 99], [[0, 33, 66, 99]] * 2),
        "rate": ([0, 15, 31, 46], [[0, 15, 31, 46]] * 2),
        # 25 frames long: from 0 and from 75, or from the middle
        "strided": ([37, 45, 53, 61], [[0, 8, 16, 24], [75, 83, 91, 99]]),
    }[name]
    assert sampler.val_indices(100, 25.0).tolist() == list(validation)
    assert [v.tolist() for v in sampler.test_indices(100, 25.0, 2)] == [list(t) for t in test]


def test_data_set_chooses_where_the_configuration_does_not(make_cfg):
    assert type(build_sampler(make_cfg({"DATA.SAMPLING": "auto"}), "tsn")).__name__ == "TsnSampler"


def test_native_rate_ignores_target_fps(make_cfg):
    cfg = {"DATA.SAMPLING": "clip"}
    resampled = build_sampler(make_cfg(cfg), "clip")
    native = build_sampler(make_cfg(cfg | {"DATA.DECODING_BACKEND": "decord"}), "clip")
    assert resampled.shape.source_length(15.0) == 4 * 8 / 30 * 15
    assert native.shape.source_length(15.0) == 4 * 8


def test_own_rule_by_name(make_cfg, monkeypatch):
    class FirstFrames(FrameSampler):
        def val_indices(self, num_frames, fps):
            return np.minimum(np.arange(self.clip_length), num_frames - 1)

    monkeypatch.setitem(FRAME_SAMPLER_REGISTRY._objects, "first", FirstFrames)
    sampler = build_sampler(make_cfg({"DATA.SAMPLING": "first"}), "clip")
    assert sampler.train_indices(3, 25.0, np.random.default_rng(0)).tolist() == [0, 1, 2, 2]
    assert [v.tolist() for v in sampler.test_indices(9, 25.0, 2)] == [[0, 1, 2, 3]] * 2


def test_unknown_rule(make_cfg):
    with pytest.raises(UserError, match="did you mean segment"):
        make_cfg({"DATA.SAMPLING": "segments"})
