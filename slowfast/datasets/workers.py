"""Loader workers: processes that take the next task from one queue and send back what it gives.

Any free worker takes the next task, so that a slow video occupies one worker and holds up no other
task. There is no lock that a worker could die with, nothing in ``/dev/shm``, and no signal handler
in the main process: the pipe of a worker that has died ends, and that is noticed at once.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from multiprocessing import connection
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch

from slowfast.config.plugins import import_plugins
from slowfast.datasets.shared import Place, SharedMemory
from slowfast.utils.errors import RunFailure, UserError, VideoError
from slowfast.utils.processes import SAVING_STATE_S, enter_worker

_TASK_BYTES = 1 << 16
_NUMBERED = (
    np.bool_,
    np.uint8,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.float16,
    np.float32,
    np.float64,
)
_DTYPES = {np.dtype(kind): torch.from_numpy(np.empty(0, kind)).dtype for kind in _NUMBERED}
_KINDS = set(_DTYPES.values())
_KEY = "DATA_LOADER.NUM_WORKERS"


class Source(Protocol):
    """What the workers read from: a data set."""

    def load(self, parts: Sequence[Any]) -> list[Any]:
        """The samples of ``parts``."""
        ...


class WorkerTraceback(Exception):
    """The traceback of an error in a worker, as text; the cause of that error here."""

    def __init__(self, pid: int, text: str):
        self.pid, self.text = pid, text
        super().__init__(f"in loader worker {pid}\n{text}")

    def __reduce__(self):
        return (WorkerTraceback, (self.pid, self.text))


BROKEN = -1  # the ticket of an error that is not of one task: the worker cannot begin


class Task(NamedTuple):
    """A part to read; its clip goes to ``place``, None: into the pipe."""

    ticket: int
    part: Any
    place: Place | None = None


@dataclass
class Answer:
    """What came of a task: ``sample``, or ``error``.

    A clip that stands in the shared memory, or follows in the pipe, is described by ``shape`` and
    ``kind`` (NumPy's type), in channels-last order, and is not in ``sample``.
    """

    ticket: int
    sample: Any = None
    error: Exception | None = None
    trace: WorkerTraceback | None = None  # of an error that is nobody's known mistake
    shape: tuple[int, ...] = ()
    kind: str = ""
    place: Place | None = None
    clip: np.ndarray | None = None  # received through the pipe

    @property
    def dtype(self) -> torch.dtype:
        return _DTYPES[np.dtype(self.kind)]

    @property
    def nbytes(self) -> int:
        """Bytes of the clip."""
        return int(np.prod(self.shape)) * np.dtype(self.kind).itemsize if self.kind else 0


# -- in the worker -------------------------------------------------------------------------------


class _Cargo:
    """The data set on its way to a worker: as it is to a forked one; pickled to another, which
    first imports the plugins that the pickled objects come from."""

    def __init__(self, source: Source, imports: Sequence[str]):
        self._source, self._imports, self._pickled = source, list(imports), b""

    def __getstate__(self) -> dict[str, Any]:
        return {"_source": None, "_imports": self._imports, "_pickled": pickle.dumps(self._source)}

    def open(self) -> Source:
        if self._pickled:
            import_plugins(self._imports)
            self._source = pickle.loads(self._pickled)
        return self._source


class _Pickler(pickle.Pickler):
    """Tensors as NumPy arrays: PyTorch would open a file for each of them."""

    def reducer_override(self, value: Any) -> Any:
        plain = isinstance(value, torch.Tensor) and value.layout == torch.strided
        if plain and value.device.type == "cpu" and value.dtype in _KINDS:
            return torch.tensor, (value.detach().numpy(),)
        return NotImplemented


def _pickled(answer: Answer) -> bytes:
    buffer = BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(answer)
    return buffer.getvalue()


def _run_worker(
    cargo: _Cargo,
    tasks: socket.socket,
    answers: connection.Connection,
    memory: SharedMemory | None,
    use_device: Callable[[], None] | None,
) -> None:
    """The life of a worker."""
    enter_worker(SAVING_STATE_S)
    # One thread per worker: the workers are the parallelism.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    try:
        if use_device is not None:
            use_device()
        source = cargo.open()
    except Exception as error:  # noqa: BLE001 - raised in the main process
        answers.send_bytes(_pickled(_error_answer(BROKEN, error)))
        return
    while message := tasks.recv(_TASK_BYTES):
        task = pickle.loads(message)
        if memory is not None and task.ticket < memory.oldest:
            answers.send_bytes(_pickled(Answer(task.ticket)))  # nobody waits for it any more
            continue
        message, clip = _work(source, task, memory)
        answers.send_bytes(message)
        if clip is not None:
            answers.send_bytes(memoryview(np.ascontiguousarray(clip)).cast("B"))


def _work(
    source: Source, task: Task, memory: SharedMemory | None
) -> tuple[bytes, np.ndarray | None]:
    """The pickled answer to a task, and the clip that has to follow it in the pipe."""
    try:
        (sample,) = source.load([task.part])
        answer, clip = _without_clip(task.ticket, sample)
        place = task.place
        if clip is not None and place is not None and place.fits(clip.nbytes, clip.itemsize):
            target = memory.part(place.offset, place.size)[place.start :][: clip.nbytes]
            np.copyto(target.view(clip.dtype).reshape(clip.shape), clip)
            answer.place, clip = place, None
        return _pickled(answer), clip
    except Exception as error:  # noqa: BLE001 - raised in the main process
        return _pickled(_error_answer(task.ticket, error)), None


def _without_clip(ticket: int, sample: Any) -> tuple[Answer, np.ndarray | None]:
    video = sample.get("video") if isinstance(sample, dict) else None
    if not isinstance(video, torch.Tensor) or video.ndim < 4 or video.dtype not in _KINDS:
        return Answer(ticket, sample), None
    rest = {name: value for name, value in sample.items() if name != "video"}
    clip = video.detach().movedim(-4, -1).numpy()
    return Answer(ticket, rest, shape=clip.shape, kind=clip.dtype.str), clip


def _error_answer(ticket: int, error: Exception) -> Answer:
    """The error as it can be sent to the main process."""
    pid = os.getpid()
    if isinstance(error, (UserError, VideoError)):
        return Answer(ticket, error=error)
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, (OSError, MemoryError)):
        remedy = f"raise the limit that it meets (ulimit -n, memory), or lower {_KEY}"
        return Answer(ticket, error=RunFailure(f"loader worker {pid} failed: {text}", remedy, _KEY))
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - an error of a plugin that does not survive pickling
        error = RuntimeError(text)
    return Answer(ticket, error=error, trace=WorkerTraceback(pid, trace))


# -- in the main process -------------------------------------------------------------------------


class Workers:
    """``count`` processes that read from ``source``.

    ``receive`` gets each :class:`Answer`, ``fail`` an error that ends everything: both in a thread
    of this object. ``start_method`` is one of multiprocessing; ``memory`` is what clips are written
    to, None: they come through pipes. ``use_device`` is called in workers that decode on a GPU.
    RunFailure if the processes cannot be started.
    """

    def __init__(
        self,
        source: Source,
        count: int,
        *,
        start_method: str,
        imports: Sequence[str],
        memory: SharedMemory | None,
        receive: Callable[[Answer], None],
        fail: Callable[[BaseException], None],
        enter_thread: Callable[[], None] = lambda: None,
        use_device: Callable[[], None] | None = None,
    ):
        self._receive, self._fail, self._enter_thread = receive, fail, enter_thread
        self._use_device = use_device
        self._waiting: deque[bytes] = deque()
        self._sending = threading.Lock()
        self._stopping = False
        self._processes: dict[connection.Connection, multiprocessing.process.BaseProcess] = {}
        try:
            self._start(_Cargo(source, imports), count, start_method, memory)
        except OSError as error:
            self.stop()
            raise RunFailure(
                f"loader workers cannot be started: {error.strerror or error}",
                f"raise the limit that it meets (ulimit -n, ulimit -u, memory), or lower {_KEY}",
                _KEY,
            ) from error
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            self.stop()
            raise UserError(
                f"the data set cannot be sent to loader workers: {error}",
                "define its classes and functions in a module, not inside a function; "
                "or DATA_LOADER.START_METHOD fork",
                "DATA_LOADER.START_METHOD",
            ) from error

    def _start(self, cargo: _Cargo, count: int, method: str, memory: SharedMemory | None) -> None:
        context = multiprocessing.get_context(method)
        if method == "forkserver":
            # Imported once, by a process that has no threads and knows no GPU.
            context.set_forkserver_preload(["slowfast.datasets.workers", "slowfast.datasets.build"])
        # Each message has one receiver, and is received whole, without any lock.
        self._tasks, others = socket.socketpair(socket.AF_UNIX, _message_socket())
        self._tasks.setblocking(False)
        with others:
            for _ in range(count):
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(
                    target=_run_worker,
                    args=(cargo, others, theirs, memory, self._use_device),
                    name="loader worker",
                    daemon=True,
                )
                # Closed here before the next worker starts: the pipe ends with its worker.
                with theirs:
                    process.start()
                self._processes[ours] = process
        threading.Thread(target=self._run_thread, name="loader", daemon=True).start()

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes."""
        return [process.pid for process in self._processes.values()]

    def submit(self, task: Task) -> None:
        """Append a task to the queue; never waits."""
        with self._sending:
            self._waiting.append(pickle.dumps(task))
            self._send()

    def _send(self) -> None:
        # What the queue does not take now is sent when an answer has come.
        while self._waiting:
            try:
                self._tasks.send(self._waiting[0])
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                return  # it has been closed, or all workers have gone, which the thread reports
            self._waiting.popleft()

    def _run_thread(self) -> None:
        try:
            self._enter_thread()
            pipes = list(self._processes)
            while pipes:
                for pipe in connection.wait(pipes):
                    try:
                        answer = _read_answer(pipe)
                    except (EOFError, OSError):
                        pipes.remove(pipe)
                        pipe.close()
                        self._ended(self._processes[pipe])
                        continue
                    with self._sending:
                        self._send()
                    self._receive(answer)
        except BaseException as error:  # noqa: BLE001 - raised in the main process
            self._fail(error)

    def _ended(self, process: multiprocessing.process.BaseProcess) -> None:
        if not self._stopping:
            process.join(5)
            self._fail(_death(process.pid, process.exitcode))

    def stop(self) -> None:
        """End the workers; they hold no state."""
        self._stopping = True
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.join(5)
        if hasattr(self, "_tasks"):
            self._tasks.close()


def _message_socket() -> int:
    # Others know datagrams only; both keep messages whole.
    return socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM


def _read_answer(pipe: connection.Connection) -> Answer:
    answer = pickle.loads(pipe.recv_bytes())
    if answer.error is not None:
        answer.error.__cause__ = answer.trace
    if answer.kind and answer.place is None:
        answer.clip = np.empty(answer.shape, answer.kind)
        pipe.recv_bytes_into(memoryview(answer.clip).cast("B"))
    return answer


def _death(pid: int, code: int | None) -> RunFailure:
    """The error that a dead worker is."""
    remedy = (
        "usually memory ran out (see the system's log): lower DATA_LOADER.NUM_WORKERS or "
        "DATA_LOADER.PREFETCH_FACTOR; tools/check_data.py finds files that crash the decoder; "
        "the same command resumes from the last checkpoint"
    )
    reason = f"exited unexpectedly with exit code {code}"
    if code is not None and code < 0:
        reason = f"is killed by signal: {signal.strsignal(-code)}"
    return RunFailure(f"loader worker {pid} died: {reason}", remedy, _KEY)
