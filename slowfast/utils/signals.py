"""SIGTERM and SIGINT: recorded during a step, acted upon when the step is complete."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A launcher repeats the signal of a terminal at once; a second Ctrl-C comes later than this.
_SECOND_SIGINT_S = 2.0


class StopRequest:
    """Within ``with StopRequest() as stop:`` a signal sets ``stop.number`` and nothing else.

    The loop reads it after each step. A second SIGINT more than two seconds after the first raises
    KeyboardInterrupt at once.
    """

    def __init__(self):
        self.number = 0
        self._since = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        # Only the main thread may set handlers; signals never reach other threads.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._record) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _record(self, number: int, _: FrameType | None) -> None:
        again = number == signal.SIGINT and self.number == number
        if again and time.monotonic() - self._since > _SECOND_SIGINT_S:
            raise KeyboardInterrupt
        if not self.number:
            self.number, self._since = number, time.monotonic()
