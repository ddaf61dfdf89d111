"""Properties of frame sampling beyond the parity tables."""

from __future__ import annotations

import numpy as np

from slowfast.video import sampling


def test_random_clip_reaches_both_ends():
    shape = sampling.ClipShape(4, 2, None)
    rng = np.random.default_rng(0)
    starts = [sampling.kinetics_random_clip(20, 0, shape, rng)[0] for _ in range(500)]
    assert min(starts) == 0 and max(starts) in (11, 12)


def test_views_with_offset_cover_the_video():
    shape = sampling.ClipShape(4, 2, None)
    views = [sampling.kinetics_clip(50, 0, shape, k, 3, offset=True) for k in range(3)]
    assert views[0][0] == 0 and views[-1][-1] == 49


def test_segment_draw_stays_in_its_segment():
    bounds = sampling.segment_bounds(50, 6)
    rng = np.random.default_rng(1)
    for _ in range(50):
        drawn = sampling.random_segments(50, 6, rng)
        assert (bounds[:-1] <= drawn).all() and (drawn <= bounds[1:]).all()


def test_frames_at_a_rate():
    """STAM: 16 frames of ten seconds at 30 fps are 18.75 apart, from the start."""
    indices = sampling.fixed_rate(300, 30.0, 16, 1.6)
    assert indices.tolist()[:4] == [0, 18, 37, 56] and indices[-1] == 281
    assert sampling.fixed_rate(100, 30.0, 16, 1.6).max() == 99  # a short video repeats its last
    shifted = sampling.fixed_rate(300, 30.0, 16, 1.6, phase=0.999)
    assert shifted[0] == 18 and shifted[-1] == 299
