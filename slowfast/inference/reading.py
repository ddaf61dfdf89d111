"""Videos, and windows of them, on their way to a network: threads read them ahead."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch

from slowfast.datasets.clip_reader import Sample
from slowfast.datasets.items import Item
from slowfast.engine.tasks.base import TaskInference
from slowfast.inference.ahead import ahead
from slowfast.inference.prediction import Clips
from slowfast.inference.videos import Video, name_of, open_any
from slowfast.inference.windows import read_windows, slide
from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.runtime import cpu_count

_MOST_READERS = 8
_Job = Callable[[], "list[Sample | VideoError]"]


@dataclass
class _Begun:
    """A video whose ``first`` windows were read; ``jobs`` read the others, one at a time, while
    ``opened`` is open. ``error``: why it cannot be opened."""

    name: str
    error: VideoError | None = None
    fps: float = 1.0
    windows: list[range] = field(default_factory=list)
    first: list[Sample | VideoError] = field(default_factory=list)
    jobs: Iterator[_Job] = iter(())
    opened: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


class Reading:
    """Reads videos as the test of a task does. ``fps``: of frames that come without a rate."""

    def __init__(self, inference: TaskInference):
        self._inference = inference

    def video(self, video: Video, fps: float) -> torch.Tensor:
        """The views of a video, uint8 ``V 3 T H W``. VideoError if it cannot be read."""
        with open_any(video, self._inference.reader, fps) as source:
            sample = self._inference.reader.read_source(source, Item(source.path, 0))
            return self._inference.clips(sample["video"])

    def videos(self, videos: Iterable[Video], fps: float) -> Iterator[Clips]:
        """All of them in their order, those that cannot be read with their error."""
        workers = min(cpu_count(), _MOST_READERS)
        jobs = (functools.partial(self._try, video, fps) for video in videos)
        return ahead(jobs, workers, 2 * workers)

    def part(self, video: Video, start: float, end: float | None, fps: float) -> torch.Tensor:
        """The views of a video from ``start`` to ``end`` (seconds; None: to its end) as if they
        were all of it. UserError if it is not so long; VideoError if it cannot be read."""
        with open_any(video, self._inference.reader, fps) as source:
            seconds = source.num_frames / source.fps
            if not 0 <= start < seconds:
                problem = f"{start:g} s lies outside of {name_of(video)}, which has {seconds:.2f} s"
                raise UserError(problem, "name a moment of the video", "start")
            if end is not None and end <= start:
                raise UserError(f"{end:g} s is not after {start:g} s", "name a later end", "end")
            first = min(round(start * source.fps), source.num_frames - 1)
            last = source.num_frames if end is None else round(end * source.fps)
            window = range(first, min(max(last, first + 1), source.num_frames))
            (read,) = next(read_windows(source, self._inference.reader, [window]))()
        if isinstance(read, VideoError):
            raise read
        return self._inference.clips(read["video"])

    def windows_of(
        self, videos: Iterable[Video], seconds: float, stride: float, fps: float
    ) -> Iterator[Clips]:
        """The windows of any number of videos in their order. Several videos are begun at once,
        the rest of a long one is read when its turn has come. A video that cannot be opened is one
        of :class:`Clips` with an error and without a span."""
        workers = min(cpu_count(), _MOST_READERS)
        jobs = (functools.partial(self._begin, v, seconds, stride, fps) for v in videos)
        with contextlib.closing(ahead(jobs, workers, workers + 1)) as videos_begun:
            for begun in videos_begun:
                if begun.error is not None:
                    yield Clips(begun.name, None, begun.error)
                with begun.opened, contextlib.closing(ahead(begun.jobs, 1, 2)) as rest:
                    yield from self._spans(begun, rest)

    def _try(self, video: Video, fps: float) -> Clips:
        name = name_of(video)
        try:
            return Clips(name, self.video(video, fps))
        except VideoError as error:
            return Clips(name, None, error)

    def _begin(self, video: Video, seconds: float, stride: float, fps: float) -> _Begun:
        name = name_of(video)
        try:
            with contextlib.ExitStack() as stack:
                source = stack.enter_context(open_any(video, self._inference.reader, fps))
                windows = slide(source.num_frames, source.fps, seconds, stride)
                jobs = read_windows(source, self._inference.reader, windows)
                first = next(jobs)()
                return _Begun(name, None, source.fps, windows, first, jobs, stack.pop_all())
        except VideoError as error:
            return _Begun(name, error)

    def _spans(self, begun: _Begun, rest: Iterator[list[Sample | VideoError]]) -> Iterator[Clips]:
        samples = itertools.chain(begun.first, itertools.chain.from_iterable(rest))
        for window, read in zip(begun.windows, samples):
            span = (window.start / begun.fps, window.stop / begun.fps)
            if isinstance(read, VideoError):
                yield Clips(begun.name, None, read, span)
            else:
                yield Clips(begun.name, self._inference.clips(read["video"]), None, span)
