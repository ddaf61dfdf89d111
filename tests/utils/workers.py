"""Processes for tests of processes; imports little, so that they start at once."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection

from slowfast.utils.processes import enter_worker


def work(outlast_s: float, ready: Connection) -> None:
    """A worker that says its number and then does nothing."""
    enter_worker(outlast_s)
    ready.send(os.getpid())
    time.sleep(600)


def start_worker(outlast_s: float, method: str) -> tuple[multiprocessing.Process, int]:
    """(process, number) of a worker that is ready."""
    context = multiprocessing.get_context(method)
    mine, its = context.Pipe()
    process = context.Process(target=work, args=(outlast_s, its), daemon=True)
    process.start()
    assert mine.poll(30)
    return process, mine.recv()


def parent(method: str, ready: Connection) -> None:
    """A process with two workers, which are started by ``method``."""
    multiprocessing.get_context(method).set_forkserver_preload([])
    ready.send([start_worker(600.0, method)[1] for _ in range(2)])
    time.sleep(600)
