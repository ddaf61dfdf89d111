"""Workers that are processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.pool import RemoteTraceback

from slowfast.utils.map.crew import Crew, Report, Worker
from slowfast.utils.map.work import Result, Work
from slowfast.utils.processes import enter_worker
from slowfast.utils.runtime import cpu_count, gpu_count

_GPUS = "CUDA_VISIBLE_DEVICES"
_WAIT_S = 1.0

# What a process sends of a parcel, or once it is prepared (no results): results, or the error that
# ends everything and its traceback.
Answer = tuple[list[Result] | None, Exception | None, str]


class _Process(Worker):
    def __init__(self, context: BaseContext, work: Work, gpu: str | None):
        super().__init__()
        self.gpu, self.is_prepared = gpu, False
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work, gpu), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, keys: list[str]) -> None:
        try:
            self.pipe.send(keys)
        except OSError:
            return  # it has gone: reports() finds its sentinel, and the keys are among its parcels

    def end(self) -> None:
        """Kill it; it holds nothing that is needed."""
        self.pipe.close()
        self.process.kill()
        self.process.join()


class Processes(Crew):
    """``count`` processes; None: a process for each core, or for each GPU if the work has a
    network."""

    def __init__(self, work: Work, count: int | None):
        super().__init__()
        self._work = work
        gpus = _visible_gpus() if work.has_network else []
        self._count = count or (len(gpus) or 1 if work.has_network else cpu_count())
        self._gpus = gpus
        # CUDA does not survive a fork.
        self._context = multiprocessing.get_context("spawn" if work.has_network else None)

    def fill(self, most: int) -> None:
        while len(self.workers) < min(self._count, most):
            used = [worker.gpu for worker in self.workers]
            gpu = min(self._gpus, key=used.count, default=None)
            self.workers.append(_Process(self._context, self._work, gpu))

    def ready(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.is_prepared]

    def reports(self) -> list[Report]:
        signs = {sign: w for w in self.workers for sign in (w.pipe, w.process.sentinel)}
        heard = dict.fromkeys(signs[sign] for sign in wait(list(signs), _WAIT_S))
        return [report for worker in heard for report in _read(worker)]

    def close(self) -> None:
        for worker in self.workers:
            worker.end()
        self.workers = []


def _read(worker: _Process) -> list[Report]:
    """What a worker has sent, and whether it has gone: what it sent before counts."""
    reports = []
    while (answer := _receive(worker.pipe)) is not None:
        results, error, trace = answer
        if error is not None:
            raise error from RemoteTraceback(trace)
        worker.is_prepared = True
        if results is not None:
            reports.append(Report(worker, results))
    if not worker.process.is_alive():
        worker.end()
        reports.append(Report(worker))
    return reports


def _receive(pipe: Connection) -> Answer | None:
    """An answer, if there is a whole one."""
    try:
        return pipe.recv() if pipe.poll() else None
    except (EOFError, OSError):  # the worker has gone
        return None


def _visible_gpus() -> list[str]:
    """The GPUs of this process, as CUDA_VISIBLE_DEVICES names them."""
    named = [name.strip() for name in os.environ.get(_GPUS, "").split(",") if name.strip()]
    return (named or [str(number) for number in range(gpu_count())])[: gpu_count()]


def _serve(pipe: Connection, work: Work, gpu: str | None) -> None:
    """In a process of its own: answer parcels until there are no more."""
    enter_worker()
    if gpu is not None:
        os.environ[_GPUS] = gpu
    pipe.send_bytes(_answer(work.prepare))
    while True:
        try:
            keys = pipe.recv()
        except EOFError:
            return
        pipe.send_bytes(_answer(lambda parcel=keys: list(work.results(parcel))))


def _answer(made: Callable[[], list[Result] | None]) -> bytes:
    """A pickled :data:`Answer`."""
    try:
        return pickle.dumps((made(), None, ""))
    except Exception as error:  # noqa: BLE001 - raised in the main process
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # noqa: BLE001 - an error that does not survive pickling
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return pickle.dumps((None, error, trace))
