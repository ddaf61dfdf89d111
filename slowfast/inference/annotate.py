"""A video with the answers for its windows drawn into its frames."""

from __future__ import annotations

import bisect
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from slowfast.inference.prediction import Prediction
from slowfast.utils.errors import VideoError
from slowfast.utils.files import write_atomic
from slowfast.utils.logging import get_logger
from slowfast.video.source import Source
from slowfast.video.writer import write_mp4

logger = get_logger(__name__)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LEAST_SIDE = 240  # pixels; smaller frames are enlarged, so that text can be read
_WHITE, _DARK, _BAR, _FIRST = (255, 255, 255), (24, 24, 24), (96, 125, 139), (38, 166, 154)

# A prediction -> the (name, probability) pairs that are drawn.
Choice = Callable[[Prediction], Sequence[tuple[str, float]]]


def best_classes(answer: Prediction) -> list[tuple[str, float]]:
    """All classes that the prediction names."""
    return list(zip(answer.labels, answer.probabilities))


@dataclass(frozen=True)
class Style:
    """``choice``: which classes are drawn; ``fps``: of the written video, 0: as it is; ``size``:
    its (width, height), zeros: as it is."""

    choice: Choice = best_classes
    fps: float = 0.0
    size: tuple[int, int] = (0, 0)


def write_annotated(
    source: Source, answers: Sequence[Prediction], path: str | Path, style: Style | None = None
) -> None:
    """Write ``source`` as H.264 to ``path``, each frame with the answer of the window around it.

    ``answers`` are those of its windows in order. There is no sound. The video ends, with a
    warning, where frames cannot be decoded any more; VideoError if that is the first one.
    """
    style = style or Style()
    frames = _drawn(source, answers, style)
    write_atomic(path, lambda temporary: write_mp4(temporary, frames, style.fps or source.fps))


def _drawn(source: Source, answers: Sequence[Prediction], style: Style) -> Iterator[np.ndarray]:
    centres = [sum(answer.span or (0.0, 0.0)) / 2 for answer in answers]
    for number, frame in enumerate(_readable(source)):
        answer = answers[_nearest(centres, (number + 0.5) / source.fps)]
        frame = _resized(frame, style.size)
        yield draw(frame, style.choice(answer), answer.error)


def _readable(source: Source) -> Iterator[np.ndarray]:
    count = 0
    try:
        for frame in source.in_order():
            yield frame
            count += 1
    except VideoError as error:
        if not count:
            raise
        logger.warning("%s: the first %d frames are drawn: %s", error.path, count, error.cause)


def _nearest(centres: Sequence[float], moment: float) -> int:
    after = bisect.bisect(centres, moment)
    neighbours = range(max(after - 1, 0), min(after + 1, len(centres)))
    return min(neighbours, key=lambda number: abs(centres[number] - moment))


def _resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The frame in an even size, in which text can be read."""
    height, width = frame.shape[:2]
    if all(size):
        wide, high = size
    else:
        factor = max(1.0, _LEAST_SIDE / min(height, width))
        wide, high = round(width * factor), round(height * factor)
    wide, high = max(wide // 2, 1) * 2, max(high // 2, 1) * 2
    if (wide, high) == (width, height):
        return frame.copy()
    return cv2.resize(frame, (wide, high), interpolation=cv2.INTER_LINEAR)


def draw(frame: np.ndarray, classes: Sequence[tuple[str, float]], error: str = "") -> np.ndarray:
    """``frame`` (uint8 ``H W 3``) with a line for each (name, probability) and a bar behind it."""
    rows = [(_latin(name), share) for name, share in classes]
    if error:
        rows = [(f"unreadable: {_latin(error)}", 0.0)]
    if not rows:
        return frame
    height, width = frame.shape[:2]
    line = int(np.clip(height / 13, 18, 44))
    gap, scale = max(line // 9, 2), line / 34
    panel_width = min(width, max(int(width * 0.42), 200))
    panel = frame[: line * len(rows) + gap, :panel_width]
    panel[:] = cv2.addWeighted(panel, 0.35, np.full_like(panel, _DARK), 0.65, 0)
    for number, (name, share) in enumerate(rows):
        top, bottom = gap + number * line, (number + 1) * line
        # Numbers that are no probabilities have no bar.
        length = int((panel_width - 2 * gap) * float(np.clip(share, 0, 1)))
        colour = _FIRST if number == 0 else _BAR
        cv2.rectangle(panel, (gap, top), (gap + length, bottom), colour, -1)
        value = "" if error else _share(share)
        value_width = _size(value, scale)[0]
        text = _fitting(name, panel_width - value_width - 8 * gap, scale)
        baseline = (top + bottom + _size("H", scale)[1]) // 2
        _write(panel, text, (3 * gap, baseline), scale)
        _write(panel, value, (panel_width - 2 * gap - value_width, baseline), scale)
    return frame


def _share(share: float) -> str:
    return f"{100 * share:.0f} %" if 0 <= share <= 1 else f"{share:.2f}"


def _write(image: np.ndarray, text: str, place: tuple[int, int], scale: float) -> None:
    cv2.putText(image, text, place, _FONT, scale, _WHITE, 1, cv2.LINE_AA)


def _size(text: str, scale: float) -> tuple[int, int]:
    """Width and height in pixels."""
    return cv2.getTextSize(text, _FONT, scale, 1)[0]


def _fitting(text: str, room: int, scale: float) -> str:
    """``text``, or its beginning if it is wider than ``room`` pixels."""
    if _size(text, scale)[0] <= room:
        return text
    while text and _size(f"{text}...", scale)[0] > room:
        text = text[:-1]
    return f"{text}..."


def _latin(text: str) -> str:
    """The font has the letters of ASCII alone: accents are dropped, others become ``?``."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return plain.encode("ascii", "replace").decode()
