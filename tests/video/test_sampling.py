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


def test_length_of_a_clip_in_frames_of_the_file():
    assert sampling.ClipShape(4, 8).source_length(15.0) == 16.0  # 32 frames at 30 fps
    assert sampling.ClipShape(4, 8, None).source_length(15.0) == 32.0
    assert sampling.ClipShape(1, 1).source_length(5.0) == 1.0  # never shorter than a frame


def test_segments_by_hand():
    assert sampling.segment_bounds(50, 4).tolist() == [0, 12, 24, 37, 49]
    views = [sampling.segment_view(50, 4, view, 2).tolist() for view in range(2)]
    assert views == [[4, 16, 28, 41], [8, 20, 32, 45]]
    assert sampling.segment_view(50, 4, 0, 1).tolist() == [6, 18, 30, 43]
    assert sampling.segment_view(1, 4, 1, 2).tolist() == [0, 0, 0, 0]


def test_tsn_draws():
    rng = np.random.default_rng(0)
    long = np.stack([sampling.tsn_random(43, 4, rng) for _ in range(300)])
    assert long.min(0).tolist() == [0, 10, 20, 30] and long.max(0).tolist() == [9, 19, 29, 39]
    assert sampling.tsn_random(4, 4, rng).tolist() == [0, 1, 2, 3]  # one frame per segment
    assert sampling.tsn_random(3, 4, rng).tolist() == [0, 0, 0, 0]
    assert sampling.tsn_validation(4, 4).tolist() == [0, 0, 0, 0]
    assert sampling.tsn_validation(8, 4).tolist() == [1, 3, 5, 7]
    assert sampling.tsn_test(4, 4).tolist() == [0, 1, 2, 3]


def test_even_frames_with_moved_ends():
    rng = np.random.default_rng(0)
    drawn = np.stack([sampling.linspace_random(40, 8, rng) for _ in range(400)])
    assert (drawn[:, 0].min(), drawn[:, 0].max()) == (0, 5)
    assert (drawn[:, -1].min(), drawn[:, -1].max()) == (34, 39)
    close = np.stack([sampling.linspace_random(12, 8, rng) for _ in range(200)])
    assert (close[:, 0].max(), close[:, -1].min()) == (2, 9)  # half of what is left over
    assert sampling.linspace_random(9, 8, rng).tolist() == sampling.linspace_whole(9, 8).tolist()
    assert sampling.linspace_whole(8, 8).tolist() == list(range(8))


def test_views_without_offset_share_the_slack():
    assert [sampling.view_start(50, 10.0, view, 4, False) for view in range(4)] == [0, 10, 20, 30]
    assert [sampling.view_start(50, 10.0, view, 5, True) for view in range(5)] == [
        0,
        10,
        20,
        30,
        40,
    ]
    assert sampling.view_start(51, 10.0, 0, 1, True) == 20.0
    assert sampling.view_start(5, 10.0, 1, 2, False) == 0.0  # shorter than the clip


def test_strided_clips():
    """Charades: views from the first start to the last, rounded to even; a short video repeats its
    ends, before its start as well."""
    starts = [int(sampling.strided_view(100, 8, 4, view, 10)[0]) for view in range(10)]
    assert starts == [round(71 / 9 * view) for view in range(10)] and starts[-1] == 71
    assert sampling.strided_view(10, 8, 4, 1, 2).tolist() == [0, 4, 8, 9, 9, 9, 9, 9]
    rng = np.random.default_rng(0)
    drawn = [sampling.strided_random(20, 4, 2, rng) for _ in range(300)]
    assert {int(clip[0]) for clip in drawn} == set(range(14))
    assert all((np.diff(clip) == 2).all() for clip in drawn)
    short = [sampling.strided_random(3, 4, 2, rng) for _ in range(300)]
    assert {tuple(clip.tolist()) for clip in short} == {
        tuple(np.clip(np.arange(start, start + 7, 2), 0, 2).tolist()) for start in range(-4, 1)
    }
