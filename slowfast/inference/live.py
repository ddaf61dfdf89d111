"""Cameras and streams: the last seconds of what comes in, answered again and again."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np

from slowfast.inference.prediction import FPS, Prediction
from slowfast.inference.predictor import Predictor
from slowfast.utils.errors import VideoError

_MOST_BYTES = 1 << 30  # of the frames that are kept
_PATIENCE_S = 30.0  # without a frame


class LiveFrames:
    """The frames of the last ``seconds`` of a camera (its number) or stream (its address).

    A thread takes them as they come, so that they are those of now, however long the network
    takes. VideoError if it cannot be opened. For use in a ``with`` statement.
    """

    def __init__(self, word: str, seconds: float):
        self.name, self.seconds = word, seconds
        self._capture = cv2.VideoCapture(int(word) if word.isdecimal() else word)
        if not self._capture.isOpened():
            raise VideoError(word, "cannot be opened as a camera or stream")
        self._frames: deque[tuple[float, np.ndarray]] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._take, name="slowfast-live", daemon=True)

    def __enter__(self) -> LiveFrames:
        self._start = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join()
        self._capture.release()

    def _take(self) -> None:
        while not self._ended:
            there, frame = self._capture.read()
            with self._changed:
                if there:
                    now = time.monotonic() - self._start
                    self._frames.append((now, np.ascontiguousarray(frame[:, :, ::-1])))
                    self._forget(now)
                else:
                    self._ended = True
                self._changed.notify_all()

    def _forget(self, now: float) -> None:
        size = self._frames[-1][1].nbytes
        while self._frames[0][0] < now - self.seconds or len(self._frames) * size > _MOST_BYTES:
            if len(self._frames) == 1:
                return
            self._frames.popleft()

    def wait_until(self, moment: float) -> bool:
        """Wait for frames up to ``moment``, in seconds since the start; False if the stream ends
        before.

        VideoError if nothing comes for half a minute.
        """
        with self._changed:
            while not self._ended and self._newest() < moment:
                if not self._changed.wait(_PATIENCE_S):
                    raise VideoError(self.name, f"sends nothing for {_PATIENCE_S:g} seconds")
            return self._newest() >= moment

    def _newest(self) -> float:
        return self._frames[-1][0] if self._frames else 0.0

    def last(self) -> tuple[list[np.ndarray], float, float]:
        """The frames of the last seconds, and the times of the first and the last of them."""
        with self._changed:
            frames = list(self._frames)
        if not frames:
            raise VideoError(self.name, "sends no frames")
        return [frame for _, frame in frames], frames[0][0], frames[-1][0]


def watch(
    predictor: Predictor,
    word: str,
    seconds: float = 2.0,
    stride: float | None = None,
    top: int = 5,
    limit: float | None = None,
) -> Iterator[Prediction]:
    """Answers for the last ``seconds`` of a camera or stream, every ``stride`` seconds, until it
    ends or has run for ``limit`` seconds.

    If the network is slower than that, moments are left out: an answer is always about now.
    """
    stride = stride or seconds
    moment, answered = seconds, -1.0
    with LiveFrames(word, seconds) as live:
        while limit is None or moment <= limit:
            goes_on = live.wait_until(moment)
            frames, start, end = live.last()
            if not goes_on and end <= answered:
                return
            rate = (len(frames) - 1) / (end - start) if end > start else FPS
            answer = predictor.predict(frames, top, fps=max(rate, 1.0))
            yield replace(answer, path=word, span=(start, end))
            answered = end
            if not goes_on:
                return
            moment = max(moment + stride, live.last()[2])
