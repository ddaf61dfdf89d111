"""Answers for any number of videos, written as they come."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from slowfast.inference.annotate import Style, write_annotated
from slowfast.inference.collect import is_live
from slowfast.inference.live import watch
from slowfast.inference.output import Lines
from slowfast.inference.prediction import FPS, Prediction
from slowfast.inference.predictor import Predictor
from slowfast.inference.timeline import write_timeline
from slowfast.inference.videos import open_any
from slowfast.utils.errors import VideoError
from slowfast.utils.files import write_atomic
from slowfast.utils.logging import get_logger
from slowfast.utils.signals import StopRequest

logger = get_logger(__name__)


@dataclass(frozen=True)
class Request:
    """What is asked about ``videos``: the ``top`` classes; of each ``window`` (seconds, 0: of the
    whole video), one every ``stride`` seconds (0: where the last one ends).

    ``timeline``, ``annotate``: files to write about a single video; ``style``: of the second;
    ``limit``: seconds after which a camera is closed, None: never; ``fps``: of folders of frames.
    """

    videos: Sequence[str]
    top: int = 5
    window: float = 0.0
    stride: float = 0.0
    timeline: str = ""
    annotate: str = ""
    style: Style = field(default_factory=Style)
    limit: float | None = None
    fps: float = FPS

    @property
    def has_spans(self) -> bool:
        """Whether answers are about parts of videos."""
        return self.window > 0

    @property
    def is_live(self) -> bool:
        """Whether a camera or stream is among the videos."""
        return any(map(is_live, self.videos))


@dataclass
class Summary:
    """What was done: ``videos`` and windows that were answered, ``unreadable`` ones by name, and
    the number of the signal that ended it (0: none), ``seconds`` that it took."""

    videos: int = 0
    windows: int = 0
    unreadable: list[str] = field(default_factory=list)
    interrupted: int = 0
    seconds: float = 0.0


def answer_all(
    predictor: Predictor, request: Request, lines: Lines, write: Callable[[str], object]
) -> Summary:
    """Write a line for every answer, and the pictures that are asked for.

    Videos that cannot be read are named on standard error, and have lines of their own. Ctrl-C or
    SIGTERM ends it after the answer that is being computed.
    """
    summary, started = Summary(), time.monotonic()
    kept: list[Prediction] = []
    keeps = bool(request.timeline or request.annotate)
    total = None if request.has_spans else len(request.videos)
    bar = tqdm(
        total=total,
        unit="window" if request.has_spans else "video",
        file=sys.stderr,
        disable=None,  # where standard error is no terminal
    )
    write(lines.head())
    try:
        with contextlib.closing(bar), StopRequest() as stop:
            for answer in _answers(predictor, request, summary):
                write(lines.line(answer))
                bar.update()
                if answer.error:
                    _warn(answer, summary)
                if keeps:
                    kept.append(answer)
                summary.windows += 1
                if stop.number:
                    summary.interrupted = stop.number
                    break
    except KeyboardInterrupt:
        summary.interrupted = signal.SIGINT
    summary.seconds = time.monotonic() - started
    if kept and any(not answer.error for answer in kept):
        _draw(predictor, request, kept)
    return summary


def _answers(predictor: Predictor, request: Request, summary: Summary) -> Iterator[Prediction]:
    """Answers, whose videos are counted in ``summary``."""
    if not request.has_spans:
        for answer in predictor.stream(request.videos, request.top, request.fps):
            summary.videos += 1
            yield answer
        return
    window, stride = request.window, request.stride or request.window
    for live, videos in itertools.groupby(request.videos, is_live):
        if live:
            yield from _watch(predictor, request, videos, summary)
            continue
        for answer in predictor.stream_windows(videos, window, stride, request.top, request.fps):
            summary.videos += answer.span is None or answer.span[0] == 0
            yield answer


def _watch(
    predictor: Predictor, request: Request, words: Iterable[str], summary: Summary
) -> Iterator[Prediction]:
    window, stride = request.window, request.stride or request.window
    for word in words:
        summary.videos += 1
        try:
            yield from watch(predictor, word, window, stride, request.top, request.limit)
        except VideoError as error:
            yield Prediction(word, kind=predictor.kind, error=error.cause)


def _warn(answer: Prediction, summary: Summary) -> None:
    part = "" if answer.span is None else " from {:.1f} to {:.1f} s".format(*answer.span)
    tqdm.write(f"unreadable: {answer.path}{part}: {answer.error}", file=sys.stderr)
    if answer.path not in summary.unreadable:
        summary.unreadable.append(answer.path)


def _draw(predictor: Predictor, request: Request, answers: Sequence[Prediction]) -> None:
    (video,) = request.videos
    if request.timeline:
        write_timeline(answers, predictor.classes, request.timeline)
    if request.annotate:
        with open_any(video, predictor.reader, request.fps) as source:
            write_annotated(source, answers, request.annotate, request.style)


def answer_into(out: str, predictor: Predictor, request: Request, lines: Lines) -> Summary:
    """:func:`answer_all` into the file ``out``, which is there when all of it is; standard output
    if ``out`` is empty."""
    if not out:
        return answer_all(predictor, request, lines, _print)
    summaries: list[Summary] = []

    def write(temporary: str) -> None:
        # Names of files need not be UTF-8.
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            summaries.append(answer_all(predictor, request, lines, file.write))

    write_atomic(out, write)
    return summaries[0]


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def describe(summary: Summary) -> str:
    """One line for people."""
    text = _counted(summary.videos, "video")
    if summary.windows != summary.videos:
        text += f", {_counted(summary.windows, 'window')}"
    if summary.unreadable:
        text += f", {len(summary.unreadable)} of them unreadable"
    return f"{text}, {summary.seconds:.1f} seconds"


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
