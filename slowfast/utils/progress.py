"""ProgressBar of an epoch: a bar on a terminal, lines in a log file."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable

from tqdm import tqdm

from slowfast.utils.logging import format_eta, get_logger

logger = get_logger(__name__)


class StepTimer:
    """Splits the time of each step into waiting for data and computing.

    Call :meth:`data_ready` when a batch has arrived and :meth:`step_done` after the step.
    Figures are means over the last ``window`` steps; ``clock`` gives seconds.
    """

    def __init__(self, window: int = 20, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._wait: deque[float] = deque(maxlen=window)
        self._total: deque[float] = deque(maxlen=window)
        self._clips: deque[int] = deque(maxlen=window)
        self._step_start = self._ready = clock()

    def data_ready(self) -> None:
        """The batch of this step has arrived."""
        self._ready = self._clock()

    def step_done(self, clips: int) -> None:
        """The step, of ``clips`` clips, is complete; the next one begins."""
        now = self._clock()
        self._wait.append(self._ready - self._step_start)
        self._total.append(now - self._step_start)
        self._clips.append(clips)
        self._step_start = now

    @property
    def step(self) -> float:
        """Seconds per step."""
        return sum(self._total) / max(len(self._total), 1)

    @property
    def wait(self) -> float:
        """Seconds per step spent waiting for data."""
        return sum(self._wait) / max(len(self._wait), 1)

    @property
    def compute(self) -> float:
        """Seconds per step spent computing."""
        return self.step - self.wait

    @property
    def wait_share(self) -> float:
        """Share of the time spent waiting for data, 0 to 1."""
        return sum(self._wait) / max(sum(self._total), 1e-9)

    @property
    def figures(self) -> dict[str, float]:
        """Seconds per step (``dt``), those of data and of computing, and the share of waiting."""
        parts = {"dt": self.step, "dt_data": self.wait, "dt_net": self.compute}
        return parts | {"wait": self.wait_share}

    @property
    def clips_per_second(self) -> float:
        """Clips per second of whole steps."""
        return sum(self._clips) / max(sum(self._total), 1e-9)

    def describe(self, memory_gb: float, steps_left: int) -> str:
        """``12.3 clips/s  wait 4%  mem 1.2G  eta 0:01:02``."""
        return (
            f"{self.clips_per_second:.1f} clips/s  wait {100 * self.wait_share:.0f}%  "
            f"mem {memory_gb:.1f}G  eta {format_eta(self.step * steps_left)}"
        )


class ProgressBar:
    """Shows a text for each of ``total`` steps: a bar on a terminal, a line every ``log_every``
    steps in a log file."""

    def __init__(self, title: str, total: int, log_every: int):
        self.title, self.total, self.log_every = title, total, log_every
        self._bar = None
        if sys.stdout.isatty() and logging.getLogger("slowfast").isEnabledFor(logging.INFO):
            self._bar = tqdm(total=total, desc=title, file=sys.stdout, leave=False)

    def update(self, done: int, text: str) -> None:
        """``done`` steps of the total are finished."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(done - self._bar.n)
        if done % self.log_every == 0 or done == self.total:
            width = len(str(self.total))
            extra = {"file_only_on_terminal": True}  # a terminal shows the bar
            logger.info("%s %*d/%d  %s", self.title, width, done, self.total, text, extra=extra)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
