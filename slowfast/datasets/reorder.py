"""The reorder buffer of a loader: workers give samples in any order, it gives batches in theirs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import util
from typing import Any

import torch

from slowfast.datasets.base import Reading, SampleSource
from slowfast.datasets.batch import Batch
from slowfast.datasets.shared import BatchMemory, Lease, SharedMemory
from slowfast.datasets.workers import BROKEN, Answer, Task, Workers
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import Runtime

logger = get_logger(__name__)

Collate = Callable[[list[Any]], Batch]


@dataclass(frozen=True)
class LoaderOptions:
    """How a loader reads.

    ``workers``: processes (0: the main process reads); ``ahead``: batches that are read before
    they are asked for; ``start_method`` of the processes, and the plugins (``imports``) that they
    need; ``pin``: batches go into page-locked memory, for the GPU of ``runtime``, on which the
    workers decode if ``decodes_on_gpu``.
    """

    workers: int = 0
    ahead: int = 2
    start_method: str = "fork"
    imports: Sequence[str] = ()
    pin: bool = False
    decodes_on_gpu: bool = False
    runtime: Runtime = field(default_factory=lambda: Runtime(torch.device("cpu")))


class WorkerReader:
    """Reads batches by worker processes, which end with this object.

    The loader and its iterators hold it; the thread that receives samples holds what is in
    :class:`_ReorderBuffer` only.
    """

    def __init__(self, dataset: SampleSource, collate: Collate, options: LoaderOptions):
        self._buffer = _ReorderBuffer(dataset, collate, options)
        # At exit before multiprocessing ends the workers in its way; never in a forked child.
        util.Finalize(self, self._buffer.workers.stop, exitpriority=10)

    def read(self, plan: Iterator[list[Any]]) -> Iterator[Batch]:
        """The batches of the keys in ``plan``; reading begins at once."""
        return self._batches(self._buffer.begin(plan))

    def _batches(self, number: int) -> Iterator[Batch]:
        while (batch := self._buffer.next_batch(number)) is not None:
            yield batch


class _Coming:
    """A batch on its way: its samples, and the parts of each that are still missing."""

    def __init__(self, number: int, readings: list[Reading], kind: Any):
        self.number = number  # of the pass
        self.kind = kind  # of its clips, which have one size
        self.readings = readings
        self.samples: list[Any] = [None] * len(readings)
        self.parts: list[list[Any]] = [[] for _ in readings]  # what each has asked for
        self.missing_parts = [0] * len(readings)
        self.missing = len(readings)
        self.lease: Lease | None = None
        self.batch: Batch | None = None
        self.error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        return self.batch is not None or self.error is not None

    def advance(self, sample: int, loaded: list[Any] | None = None) -> list[Any]:
        """Give a sample the parts that it asked for; what it asks for next, [] if it is complete
        or has failed."""
        reading = self.readings[sample]
        try:
            parts = next(reading) if loaded is None else reading.send(loaded)
        except StopIteration as done:
            self.samples[sample] = done.value
            self.missing -= 1
            return []
        except Exception as error:  # noqa: BLE001 - raised where the batch is due
            self.error = self.error or error
            return []
        self.parts[sample] = [None] * len(parts)
        self.missing_parts[sample] = len(parts)
        return list(parts)


class _ReorderBuffer:
    """Batches on their way, in order; the consumer's thread and that of the workers use it."""

    def __init__(self, dataset: SampleSource, collate: Collate, options: LoaderOptions):
        self._dataset, self._collate, self._options = dataset, collate, options
        self._changed = threading.Condition()
        self._plan: Iterator[list[Any]] = iter(())
        self._pass = 0
        self._coming: deque[_Coming] = deque()
        self._tasks: dict[int, tuple[_Coming, int, int]] = {}  # ticket: batch, sample, part
        self._tickets = 0
        self._failure: BaseException | None = None
        self._shared = _shared_memory()
        self._memory = BatchMemory(self._shared) if self._shared else None
        self.workers = Workers(
            dataset,
            options.workers,
            start_method=options.start_method,
            imports=options.imports,
            memory=self._shared,
            receive=self._receive,
            fail=self._fail,
            enter_thread=options.runtime.enter_thread,
            use_device=options.runtime.enter_thread if options.decodes_on_gpu else None,
        )

    # -- the consumer's side ---------------------------------------------------------------------

    def begin(self, plan: Iterator[list[Any]]) -> int:
        """Begin a pass over ``plan``, and end the one before; gives its number."""
        with self._changed:
            self._pass += 1
            self._coming.clear()
            self._plan = plan
            if self._shared:
                self._shared.set_oldest(self._tickets)
            self._fill()
            self._changed.notify_all()
            return self._pass

    def next_batch(self, number: int) -> Batch | None:
        """The next batch of pass ``number``, None at its end; the error of a sample in it, or of a
        worker that has died."""

        def is_settled() -> bool:
            over = self._failure is not None or number != self._pass or not self._coming
            return over or self._coming[0].is_done

        with self._changed:
            self._changed.wait_for(is_settled)
            if self._failure is not None:
                raise self._failure
            if number != self._pass:
                raise RuntimeError("another pass over this loader has begun")
            if not self._coming:
                return None
            first = self._coming.popleft()
            self._fill()
        if first.error is not None:
            raise first.error
        return first.batch

    def _fill(self) -> None:
        while len(self._coming) < self._options.ahead:
            keys = next(self._plan, None)
            if keys is None:
                return
            self._begin(keys)

    def _begin(self, keys: list[Any]) -> None:
        kind = getattr(keys[0], "size", None) if keys else None
        coming = _Coming(self._pass, [self._dataset.assemble(key) for key in keys], kind)
        self._coming.append(coming)
        requests = [(sample, coming.advance(sample)) for sample in range(len(keys))]
        coming.lease = self._lease(sum(len(parts) for _, parts in requests), kind)
        position = 0
        for sample, parts in requests:
            self._submit(coming, sample, parts, position)
            position += len(parts)
        if coming.missing == 0:  # nothing had to be read
            self._finish(coming)

    def _lease(self, clips: int, kind: Any) -> Lease | None:
        if self._memory is None:
            return None
        try:
            return self._memory.lease(clips, kind)
        except OSError as error:
            self._memory = None
            logger.warning(
                "no shared memory (%s): clips come through pipes, which is slower", error
            )
            return None

    def _submit(
        self, coming: _Coming, sample: int, parts: list[Any], position: int | None = None
    ) -> None:
        for number, part in enumerate(parts):
            place = None
            if coming.lease is not None and position is not None:
                place = coming.lease.place(position + number)
            self._tasks[self._tickets] = coming, sample, number
            self.workers.submit(Task(self._tickets, part, place))
            self._tickets += 1

    # -- the workers' side -----------------------------------------------------------------------

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def _receive(self, answer: Answer) -> None:
        if answer.ticket == BROKEN:
            self._fail(answer.error)
            return
        with self._changed:
            coming, sample, part = self._tasks.pop(answer.ticket)
            if coming.number != self._pass:
                return  # the pass has ended; its memory is free when all answers have come
            if answer.error is not None:
                coming.error = coming.error or answer.error
            else:
                self._take(coming, sample, part, answer)
            complete = coming.missing == 0
            self._changed.notify_all()
        if complete:
            self._finish(coming)

    def _take(self, coming: _Coming, sample: int, part: int, answer: Answer) -> None:
        coming.parts[sample][part] = self._with_clip(answer, coming)
        coming.missing_parts[sample] -= 1
        if coming.missing_parts[sample] == 0:
            self._submit(coming, sample, coming.advance(sample, coming.parts[sample]))

    def _with_clip(self, answer: Answer, coming: _Coming) -> Any:
        if not answer.kind:
            return answer.sample
        if self._memory is not None:
            self._memory.learn(answer.nbytes, coming.kind)
        if answer.place is not None:
            clip = coming.lease.tensor(answer.place, answer.shape, answer.dtype)
        else:
            clip = torch.from_numpy(answer.clip)
        return {"video": clip.movedim(-1, -4)} | answer.sample

    def _finish(self, coming: _Coming) -> None:
        """All samples are there: make the batch. Without the lock where it is the workers' thread:
        page-locked memory is filled meanwhile."""
        try:
            batch = self._collate(coming.samples)
            batch = batch.pin_memory() if self._options.pin else batch
        except Exception as error:  # noqa: BLE001 - raised where the batch is due
            coming.error = error
        else:
            coming.batch = batch
        coming.samples, coming.parts, coming.lease = [], [], None
        with self._changed:
            self._changed.notify_all()


def _shared_memory() -> SharedMemory | None:
    try:
        return SharedMemory.create()
    except OSError as error:
        logger.warning("no shared memory (%s): clips come through pipes, which is slower", error)
        return None
