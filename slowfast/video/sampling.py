"""Which frames of a video make a clip: index arithmetic without any reading.

Every function takes the number of frames and either a random generator (training) or a view
number (testing), and gives 0-based frame indices. The rules are those of the published loaders;
``tests/parity`` checks them against tables.
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
        """Length of the clip in frames of a source with ``fps`` frames a second."""
        if self.target_fps is None:
            return float(self.rate * self.num_frames)
        return max(1.0, self.rate * self.num_frames / self.target_fps * fps)


def clip_indices(frames: int, start: float, length: float, num_frames: int) -> np.ndarray:
    """``num_frames`` indices from ``start`` on, ``length`` source frames long, clamped.

    Truncated float32 linspace, as the reference computes it.
    """
    # torch.linspace rounds as the published loaders do; NumPy's does not.
    points = torch.linspace(start, start + length - 1, num_frames)
    return points.clamp(0, frames - 1).long().numpy()


def clip_start(frames: int, length: float, view: int, views: int, use_offset: bool) -> float:
    """Start of test clip ``view`` of ``views`` (PySlowFast)."""
    slack = max(frames - length, 0)
    if not use_offset:
        return slack * view / views
    if views == 1:
        return float(slack // 2)
    return float(view * (slack // (views - 1)))


def kinetics_clip(
    frames: int, fps: float, shape: ClipShape, view: int, views: int, use_offset: bool = False
) -> np.ndarray:
    """Test clip ``view`` of ``views`` of a Kinetics-style loader."""
    length = shape.source_length(fps)
    start = clip_start(frames, length, view, views, use_offset)
    return clip_indices(frames, start, length, shape.num_frames)


def kinetics_random_clip(
    frames: int, fps: float, shape: ClipShape, rng: np.random.Generator
) -> np.ndarray:
    """Training clip of a Kinetics-style loader: a uniform start."""
    return kinetics_clip_at(frames, fps, shape, rng.random())


def kinetics_clip_at(frames: int, fps: float, shape: ClipShape, fraction: float) -> np.ndarray:
    """The clip that starts at ``fraction`` (0..1) of the possible starts."""
    length = shape.source_length(fps)
    start = fraction * max(frames - length, 0)
    return clip_indices(frames, start, length, shape.num_frames)


def segment_bounds(frames: int, segments: int) -> np.ndarray:
    """Bounds of equal segments, rounded half to even: ``segments + 1`` indices."""
    return np.round((frames - 1) / segments * np.arange(segments + 1)).astype(np.int64)


def random_segments(frames: int, segments: int, rng: np.random.Generator) -> np.ndarray:
    """A random frame of each segment, both bounds included (Something-Something training)."""
    bounds = segment_bounds(frames, segments)
    return rng.integers(bounds[:-1], bounds[1:], endpoint=True)


def segment_middles(frames: int, segments: int) -> np.ndarray:
    """The middle of each segment (PySlowFast's Something-Something test, the same every view)."""
    bounds = segment_bounds(frames, segments)
    return (bounds[:-1] + bounds[1:]) // 2


def segment_view(frames: int, segments: int, view: int, views: int) -> np.ndarray:
    """View ``view`` of ``views`` of the UniFormer and STFM Something-Something test."""
    offset = (frames - 1) / segments * (view + 1) / (views + 1)
    starts = segment_bounds(frames, segments)[:-1]
    return np.minimum((starts + offset).astype(np.int64), frames - 1)


def tsn_random(frames: int, segments: int, rng: np.random.Generator) -> np.ndarray:
    """Training frames of TSN: a random one of each segment; short videos repeat frames."""
    duration = frames // segments
    if duration > 0:
        return np.arange(segments) * duration + rng.integers(0, duration, size=segments)
    if frames > segments:
        return np.sort(rng.integers(0, frames, size=segments))
    return np.zeros(segments, dtype=np.int64)


def tsn_validation(frames: int, segments: int) -> np.ndarray:
    """Validation frames of TSN: segment middles; all zero when the video is not longer."""
    if frames <= segments:
        return np.zeros(segments, dtype=np.int64)
    return tsn_test(frames, segments)


def tsn_test(frames: int, segments: int) -> np.ndarray:
    """Test frames of TSN: the middle of each segment."""
    tick = frames / segments
    return (tick / 2 + tick * np.arange(segments)).astype(np.int64)


def linspace_between(frames: int, num_frames: int, start: int, end: int) -> np.ndarray:
    """``num_frames`` indices evenly from ``start`` to ``end``; all frames if just enough."""
    if frames == num_frames:
        return np.arange(frames)
    return np.linspace(start, end, num_frames).astype(np.int64)


def linspace_random(frames: int, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Even indices with both ends moved inwards at random by up to five frames (STAF, TRX)."""
    pad = int(min(5, (frames - num_frames) / 2))
    if pad < 1:
        return linspace_between(frames, num_frames, 0, frames - 1)
    start = int(rng.integers(0, pad, endpoint=True))
    end = int(rng.integers(frames - 1 - pad, frames - 1, endpoint=True))
    return linspace_between(frames, num_frames, start, end)


def linspace_full(frames: int, num_frames: int) -> np.ndarray:
    """Even indices from the first to the last frame."""
    return linspace_between(frames, num_frames, 0, frames - 1)


def view_of_item(index: int, views: int, crops: int) -> tuple[int, int, int]:
    """Item of the reference's test list -> (video, temporal view, crop); crop 1 is central."""
    video, rest = divmod(index, views * crops)
    return video, rest // crops, rest % crops if crops > 1 else 1


def at_rate(frames: int, fps: float, count: int, rate: float, phase: float = 0.0) -> np.ndarray:
    """``count`` frames, ``rate`` of them a second, from the start (STAM's protocol).

    ``phase`` in 0..1 shifts them within their interval; beyond the end the last frame repeats.
    """
    indices = np.floor((np.arange(count) + phase) * fps / rate).astype(int)
    return np.minimum(indices, frames - 1)
