"""Properties of frame sampling beyond the parity tables."""

from __future__ import annotations

import numpy as np
import pytest

from slowfast.video import sampling
from slowfast.video.sampler import build_sampler


@pytest.mark.parametrize("frames", [1, 2, 5, 8, 33, 300])
@pytest.mark.parametrize("kind", ["clip", "segment", "tsn", "linspace"])
def test_indices_are_inside_and_ordered(make_cfg, frames, kind):
    cfg = make_cfg({"DATA.SAMPLING": kind, "DATA.NUM_FRAMES": 8})
    sampler = build_sampler(cfg, "clip")
    rng = np.random.default_rng(0)
    draws = [sampler.train(frames, 25.0, rng) for _ in range(20)]
    draws += [sampler.validation(frames, 25.0), *sampler.test(frames, 25.0, 3)]
    for indices in draws:
        assert len(indices) == 8
        assert indices.min() >= 0 and indices.max() < frames
        assert (np.diff(indices) >= 0).all()


def test_native_rate_ignores_target_fps(make_cfg):
    resampled = build_sampler(make_cfg({"DATA.SAMPLING": "clip"}), "clip")
    native = build_sampler(
        make_cfg({"DATA.SAMPLING": "clip", "DATA.DECODING_BACKEND": "decord"}), "clip"
    )
    assert resampled.shape.source_length(15.0) == 4 * 8 / 30 * 15
    assert native.shape.source_length(15.0) == 4 * 8


def test_random_clip_reaches_both_ends():
    shape = sampling.ClipShape(4, 2, None)
    rng = np.random.default_rng(0)
    starts = [sampling.kinetics_random_clip(20, 0, shape, rng)[0] for _ in range(500)]
    assert min(starts) == 0 and max(starts) in (11, 12)


def test_views_with_offset_cover_the_video():
    shape = sampling.ClipShape(4, 2, None)
    views = [sampling.kinetics_clip(50, 0, shape, k, 3, use_offset=True) for k in range(3)]
    assert views[0][0] == 0 and views[-1][-1] == 49


def test_segment_draw_stays_in_its_segment():
    bounds = sampling.segment_bounds(50, 6)
    rng = np.random.default_rng(1)
    for _ in range(50):
        drawn = sampling.random_segments(50, 6, rng)
        assert (bounds[:-1] <= drawn).all() and (drawn <= bounds[1:]).all()


def test_frames_at_a_rate():
    """STAM: 16 frames of ten seconds at 30 fps are 18.75 apart, from the start."""
    indices = sampling.at_rate(300, 30.0, 16, 1.6)
    assert indices.tolist()[:4] == [0, 18, 37, 56] and indices[-1] == 281
    assert sampling.at_rate(100, 30.0, 16, 1.6).max() == 99  # a short video repeats its last
    shifted = sampling.at_rate(300, 30.0, 16, 1.6, phase=0.999)
    assert shifted[0] == 18 and shifted[-1] == 299
