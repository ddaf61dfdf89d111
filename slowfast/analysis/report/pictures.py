"""Videos as small pictures inside the page: all frames side by side in one WebP image.

The page moves the image behind a window of one frame, so that it plays, stops and steps.
"""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from slowfast.config.node import CfgNode
from slowfast.utils.addresses import join
from slowfast.utils.errors import VideoError
from slowfast.utils.files import short_hash
from slowfast.video.source import MAX_PIXELS, open_source, resolve_backend

FRAMES = 8
_HEIGHT = 112  # pixels
_LEAST_HEIGHT = 96
_MOST_WIDTH = 180
_QUALITY = 55

Span = tuple[float, float]  # seconds


@dataclass(frozen=True)
class Picture:
    """A video: ``uri`` is the image of its ``frames`` side by side, each ``width height``.

    ``name`` identifies it on the page, where it stands once however often it is shown.
    """

    name: str
    uri: str
    frames: int
    width: int
    height: int

    @property
    def shown_width(self) -> int:
        """Width on the page, where small frames are enlarged."""
        return round(self.width * max(1.0, _LEAST_HEIGHT / self.height))


@dataclass
class Budget:
    """What the pictures of a page may take: their number, bytes, and seconds of reading; and
    how many videos that cannot be read are tried."""

    videos: int
    size: int
    seconds: float
    failures: int = 50
    used: int = 0
    spent: list[str] = field(default_factory=list)  # what has run out
    _start: float | None = None  # when the first picture was asked for

    def allows(self) -> bool:
        """Whether there may be another picture."""
        now = time.monotonic()
        self._start = now if self._start is None else self._start
        limits = {
            "number of videos (REPORT.VIDEOS)": self.videos > 0,
            "size (REPORT.MEGABYTES)": self.used < self.size,
            "attempts (too many videos cannot be read)": self.failures > 0,
            "time (REPORT.SECONDS)": now - self._start < self.seconds,
        }
        for name, is_left in limits.items():
            if not is_left and name not in self.spent:
                self.spent.append(name)
        return all(limits.values())

    def take(self, picture: Picture) -> bool:
        """Count a picture; False if it does not fit any more."""
        if self.used + len(picture.uri) > self.size:
            self.used = self.size
            return False
        self.used += len(picture.uri)
        self.videos -= 1
        return True


class VideoPictures:
    """Reads videos of a run, each once.

    ``directory``: where relative paths start. ``failures``: path -> why it could not be read.
    """

    def __init__(self, cfg: CfgNode | None, directory: Path, budget: Budget):
        self.budget, self._directory = budget, directory
        self._template = cfg.DATA.IMAGE_TEMPLATE if cfg else ""
        self._backend = resolve_backend(cfg.DATA.DECODING_BACKEND) if cfg else "pyav"
        self._most = cfg.DATA.MAX_PIXELS if cfg else MAX_PIXELS
        self._made: dict[tuple[str, Span | None], Picture] = {}
        self.failures: dict[str, str] = {}

    def picture(self, path: str, span: Span | None = None) -> Picture | None:
        """Of a video, or of the part of it from ``span[0]`` to ``span[1]`` seconds. None if it
        cannot be read, or when the budget is spent."""
        if (path, span) in self._made or path in self.failures:
            return self._made.get((path, span))
        if not self.budget.allows():
            return None
        try:
            made = draw_picture(self._frames(path, span))
        except VideoError as error:
            self.failures[path] = error.cause
            self.budget.failures -= 1
            return None
        if not self.budget.take(made):
            return None
        self._made[path, span] = made
        return made

    def _frames(self, path: str, span: Span | None) -> list[np.ndarray]:
        """Evenly spaced frames, each scaled down when it is decoded."""
        full = join(self._directory, path)
        source = open_source(full, self._template, backend=self._backend, max_pixels=self._most)
        first, last = 0, source.num_frames
        if span is not None:
            first = min(round(span[0] * source.fps), last - 1)
            last = min(max(round(min(span[1] * source.fps, last)), first + 1), last)
        count = min(FRAMES, last - first)
        # In the middle of equal parts: the last frames of a file are often damaged.
        indices = [first + int((part + 0.5) * (last - first) / count) for part in range(count)]
        (clip,) = source.clips([indices], _small)
        return clip


def draw_picture(frames: Sequence[np.ndarray]) -> Picture:
    """uint8 RGB frames ``H W 3``, all of one size after scaling -> their picture."""
    small = [_small(frame) for frame in frames]
    height, width = small[0].shape[:2]
    alike = [f if f.shape == small[0].shape else _resized(f, width, height) for f in small]
    uri = _uri(np.concatenate(alike, axis=1))
    return Picture(f"picture-{short_hash(uri)}", uri, len(alike), width, height)


def _uri(image: np.ndarray) -> str:
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(data, "WEBP", quality=_QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()


def _small(frame: np.ndarray) -> np.ndarray:
    """The frame in the size of the page; smaller ones stay as they are."""
    height, width = frame.shape[:2]
    scale = min(1.0, _HEIGHT / height, _MOST_WIDTH / width)
    if scale == 1:
        return np.array(frame)
    return _resized(frame, max(round(width * scale), 1), max(round(height * scale), 1))


def _resized(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
