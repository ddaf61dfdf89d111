"""Which frames of a video make a clip: index arithmetic without any reading.

Every function takes the number of frames of the video and either a random generator (training) or
a view number (testing), and gives 0-based frame indices. The rules are those of the published
loaders (``tests/parity`` checks them against tables); :mod:`slowfast.video.sampler` names them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class ClipShape:
    """Length of a clip: ``num_frames`` frames, ``rate`` apart at ``target_fps`` (None: native)."""

    num_frames: int
    rate: int
    target_fps: float | None = 30.0

    def source_length(self, fps: float) -> float:
        """Length of the clip in frames of a source with ``fps`` frames per second."""
        if self.target_fps is None:
            return float(self.rate * self.num_frames)
        return max(1.0, self.rate * self.num_frames / self.target_fps * fps)


def clip_indices(num_frames: int, start: float, length: float, clip_length: int) -> np.ndarray:
    """``clip_length`` indices from ``start`` on, ``length`` source frames long, clamped.

    Truncated float32 linspace, as the reference computes it.
    """
    # torch.linspace rounds as the published loaders do; NumPy's does not.
    points = torch.linspace(start, start + length - 1, clip_length)
    return points.clamp(0, num_frames - 1).long().numpy()


def view_start(num_frames: int, length: float, view: int, num_views: int, offset: bool) -> float:
    """Start of test clip ``view`` of ``num_views`` (PySlowFast); ``offset`` as in
    DATA.USE_OFFSET_SAMPLING."""
    slack = max(num_frames - length, 0)
    if not offset:
        return slack * view / num_views
    if num_views == 1:
        return float(slack // 2)
    return float(view * (slack // (num_views - 1)))


def kinetics_clip(
    num_frames: int, fps: float, shape: ClipShape, view: int, num_views: int, offset: bool = False
) -> np.ndarray:
    """Test clip ``view`` of ``num_views`` of a Kinetics-style loader."""
    length = shape.source_length(fps)
    start = view_start(num_frames, length, view, num_views, offset)
    return clip_indices(num_frames, start, length, shape.num_frames)


def kinetics_random_clip(
    num_frames: int, fps: float, shape: ClipShape, rng: np.random.Generator
) -> np.ndarray:
    """Training clip of a Kinetics-style loader: a uniform start."""
    return kinetics_clip_at(num_frames, fps, shape, rng.random())


def kinetics_clip_at(num_frames: int, fps: float, shape: ClipShape, fraction: float) -> np.ndarray:
    """The clip that starts at ``fraction`` (0..1) of the possible starts."""
    length = shape.source_length(fps)
    start = fraction * max(num_frames - length, 0)
    return clip_indices(num_frames, start, length, shape.num_frames)


def strided(num_frames: int, start: int, clip_length: int, rate: int) -> np.ndarray:
    """``clip_length`` indices ``rate`` apart from ``start`` on, clamped."""
    return np.clip(start + rate * np.arange(clip_length), 0, num_frames - 1)


def strided_random(
    num_frames: int, clip_length: int, rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Training clip of the Charades loader: a random start; a clip that is longer than the video
    may start before it."""
    slack = num_frames - ((clip_length - 1) * rate + 1)
    start = int(rng.integers(min(slack, 0), max(slack, 0), endpoint=True))
    return strided(num_frames, start, clip_length, rate)


def strided_view(
    num_frames: int, clip_length: int, rate: int, view: int, num_views: int
) -> np.ndarray:
    """Test clip ``view`` of ``num_views`` of the Charades loader, from the first start to the last;
    a single one from the middle."""
    slack = max(num_frames - ((clip_length - 1) * rate + 1), 0)
    start = round(slack / (num_views - 1) * view) if num_views > 1 else slack // 2
    return strided(num_frames, start, clip_length, rate)


def segment_bounds(num_frames: int, segments: int) -> np.ndarray:
    """Bounds of equal segments, rounded half to even: ``segments + 1`` indices."""
    return np.round((num_frames - 1) / segments * np.arange(segments + 1)).astype(np.int64)


def random_segments(num_frames: int, segments: int, rng: np.random.Generator) -> np.ndarray:
    """A random frame of each segment, both bounds included (Something-Something training)."""
    bounds = segment_bounds(num_frames, segments)
    return rng.integers(bounds[:-1], bounds[1:], endpoint=True)


def segment_view(num_frames: int, segments: int, view: int, num_views: int) -> np.ndarray:
    """View ``view`` of ``num_views`` of the UniFormer and STFM Something-Something test."""
    offset = (num_frames - 1) / segments * (view + 1) / (num_views + 1)
    starts = segment_bounds(num_frames, segments)[:-1]
    return np.minimum((starts + offset).astype(np.int64), num_frames - 1)


def tsn_random(num_frames: int, segments: int, rng: np.random.Generator) -> np.ndarray:
    """Training frames of TSN: a random one of each segment; short videos repeat frames."""
    duration = num_frames // segments
    if duration > 0:
        return np.arange(segments) * duration + rng.integers(0, duration, size=segments)
    if num_frames > segments:
        return np.sort(rng.integers(0, num_frames, size=segments))
    return np.zeros(segments, dtype=np.int64)


def tsn_validation(num_frames: int, segments: int) -> np.ndarray:
    """Validation frames of TSN: segment middles; all zero when the video is not longer."""
    if num_frames <= segments:
        return np.zeros(segments, dtype=np.int64)
    return tsn_test(num_frames, segments)


def tsn_test(num_frames: int, segments: int) -> np.ndarray:
    """Test frames of TSN: the middle of each segment."""
    tick = num_frames / segments
    return (tick / 2 + tick * np.arange(segments)).astype(np.int64)


def linspace_between(num_frames: int, clip_length: int, start: int, end: int) -> np.ndarray:
    """``clip_length`` indices evenly from ``start`` to ``end``; all frames if just enough."""
    if num_frames == clip_length:
        return np.arange(num_frames)
    return np.linspace(start, end, clip_length).astype(np.int64)


def linspace_random(num_frames: int, clip_length: int, rng: np.random.Generator) -> np.ndarray:
    """Even indices with both ends moved inwards at random by up to five frames (STAF, TRX)."""
    pad = int(min(5, (num_frames - clip_length) / 2))
    if pad < 1:
        return linspace_whole(num_frames, clip_length)
    start = int(rng.integers(0, pad, endpoint=True))
    end = int(rng.integers(num_frames - 1 - pad, num_frames - 1, endpoint=True))
    return linspace_between(num_frames, clip_length, start, end)


def linspace_whole(num_frames: int, clip_length: int) -> np.ndarray:
    """Even indices from the first to the last frame."""
    return linspace_between(num_frames, clip_length, 0, num_frames - 1)


def fixed_rate(
    num_frames: int, fps: float, clip_length: int, clip_fps: float, phase: float = 0.0
) -> np.ndarray:
    """``clip_length`` frames, ``clip_fps`` of them per second, from the start (STAM's protocol).

    ``phase`` in 0..1 shifts them within their interval; beyond the end the last frame repeats.
    """
    indices = np.floor((np.arange(clip_length) + phase) * fps / clip_fps).astype(int)
    return np.minimum(indices, num_frames - 1)
