"""Work for the workers of these tests, which import it by its name."""

from __future__ import annotations

import os
import signal
import time
from functools import cached_property
from pathlib import Path

from slowfast.utils.files import write_text_atomic
from slowfast.utils.map import Work


class Slow(Work):
    """Writes a file beside each key and notes every call; crashes where it is told to."""

    parcel = 2

    def __init__(self, seconds: float = 0.0, has_network: bool = False):
        self.seconds, self.has_network = seconds, has_network

    @cached_property
    def made_in(self) -> int:
        """What is made once in each worker."""
        return os.getpid()

    def results(self, keys):
        for key in keys:
            with open(f"{key}.calls", "a") as file:
                file.write(f"{self.made_in}\n")
            time.sleep(self.seconds)
            if "crash" in Path(key).name:
                os.kill(os.getpid(), signal.SIGKILL)
            if "wrong" in Path(key).name:
                raise IsADirectoryError(key)
            write_text_atomic(f"{key}.out", Path(key).name)
            yield {"name": Path(key).name, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "")}


class DiesAtStart(Slow):
    """Ends every worker before its first item."""

    def prepare(self):
        os.kill(os.getpid(), signal.SIGKILL)


class FailsAtStart(Slow):
    """Cannot be prepared."""

    def prepare(self):
        raise IsADirectoryError("no weights")
