"""A long video as sliding windows: each is read as if it were a video of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from slowfast.datasets.clip_reader import ClipReader, Sample
from slowfast.datasets.items import Item
from slowfast.utils.errors import UserError, VideoError
from slowfast.video.source import Source, as_it_is

T = TypeVar("T")

# Windows that are decoded in one pass, since every pass begins at a keyframe, seconds before:
_MOST_WINDOWS = 32
_MOST_BYTES = 192 << 20  # of their frames


def slide(num_frames: int, fps: float, seconds: float, stride: float) -> list[range]:
    """The frames of each window of ``seconds``, one every ``stride`` seconds.

    The last window ends with the video and may be shorter. UserError unless both are positive.
    """
    for value, key in ((seconds, "window"), (stride, "stride")):
        if not 0 < value < math.inf:
            raise UserError(f"is {value:g} seconds", "give a positive number", key)
    length = max(round(seconds * fps), 1)
    windows: list[range] = []
    while not windows or windows[-1].stop < num_frames:
        # From the beginning each time, so that rounding does not add up.
        start = max(round(len(windows) * stride * fps), windows[-1].start + 1 if windows else 0)
        if start >= num_frames:
            break
        windows.append(range(start, min(start + length, num_frames)))
    return windows


def read_windows(
    source: Source, reader: ClipReader, windows: Sequence[range]
) -> Iterator[Callable[[], list[Sample | VideoError]]]:
    """Jobs that read a few neighbouring windows each, in order; one job at a time may run.

    A job gives what ``reader`` makes of each window, or the error of a part that is damaged.
    """
    for group in _groups(source, reader, windows):
        yield lambda group=group: _read_group(source, reader, group)


def _wanted(source: Source, reader: ClipReader, window: range) -> set[int]:
    """The frames of the video that a window needs."""
    lists = reader.evaluated_indices(len(window), source.fps)
    return {window[int(index)] for indices in lists for index in indices}


def _groups(source: Source, reader: ClipReader, windows: Sequence[range]) -> Iterator[list[range]]:
    group: list[range] = []
    frames: set[int] = set()
    for window in windows:
        added = _wanted(source, reader, window)
        full = 3 * source.pixels * len(frames | added) > _MOST_BYTES
        if group and (full or len(group) == _MOST_WINDOWS):
            yield group
            group, frames = [], set()
        group.append(window)
        frames |= added
    if group:
        yield group


def _read_group(
    source: Source, reader: ClipReader, group: Sequence[range]
) -> list[Sample | VideoError]:
    wanted = sorted(set().union(*(_wanted(source, reader, window) for window in group)))
    try:
        frames, item = source.decode(wanted), Item(source.path, 0)
        return [reader.read_source(_Window(source, window, frames), item) for window in group]
    except VideoError as error:
        if len(group) == 1:
            return [error]
        # One by one, to lose no more than what is damaged.
        return [_read_group(source, reader, [window])[0] for window in group]


class _Window(Source):
    """A part of a source, of which the frames that are needed were decoded."""

    def __init__(self, source: Source, window: range, frames: dict[int, np.ndarray]):
        self.path, self.fps, self.pixels = source.path, source.fps, source.pixels
        self.num_frames = len(window)
        self._window, self._frames = window, frames

    def decode(
        self, indices: list[int], work: Callable[[np.ndarray], T] = as_it_is
    ) -> dict[int, T]:
        return {index: work(self._frames[self._window[index]]) for index in indices}
