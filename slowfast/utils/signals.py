"""SIGTERM and SIGINT: noted while something must be finished first, obeyed afterwards."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_IMPATIENT_S = 2.0  # launchers forward a terminal's signal; a person repeats it later than that


class StopRequest:
    """Within ``with StopRequest() as stop:`` a signal sets ``stop.number`` and nothing else.

    The loop looks at it when a step is done. A second SIGINT, two seconds later or more, is a
    person who does not want to wait: KeyboardInterrupt.
    """

    def __init__(self):
        self.number = 0
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        # Only the main thread may set handlers; elsewhere signals are not ours.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        again = number == signal.SIGINT and self.number == number
        if again and time.monotonic() - self._since > _IMPATIENT_S:
            raise KeyboardInterrupt
        if not self.number:
            self.number, self._since = number, time.monotonic()


def outlast_signals() -> None:
    """In a loader worker: a signal to the whole group is the main process's to answer.

    The second SIGTERM is obeyed: it is the main process's own, which wants to end.
    """

    def once(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, once)
