"""Kinds of harm: a full disk, small files, few descriptors, no shared memory, no console."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slowfast.analysis.stress.runs import Run, Scene, Surroundings, can_mount
from slowfast.analysis.stress.table import Tally, watch_end
from slowfast.utils.errors import UserError

_FAILS = {1}
_LONG = ("SOLVER.MAX_EPOCH", "1000")
_SHORT = ("SOLVER.MAX_EPOCH", "1")
_START_S = 120.0  # a run may need this long until it meets what is scarce

Outcome = tuple[list[str], float]


def disk(scene: Scene, tries: int) -> Tally:
    """OUTPUT_DIR is a file system of random size that the run fills."""
    _need_mounts()

    def attempt(number: int) -> Outcome:
        out = scene.folder / f"disk{number}"
        size = f"{scene.rng.randint(16, 1000)}k"
        around = Surroundings(mounts=((str(out), size),))
        return _fails(scene.start(out.name, _LONG, around), ["error: ", "No space left on device"])

    return _repeat("disk", tries, attempt)


def file_size(scene: Scene, tries: int) -> Tally:
    """Files may not grow beyond a random size; what was complete before stays valid."""

    def attempt(number: int) -> Outcome:
        limit = scene.rng.randint(2_000, 300_000)
        run = scene.start(f"size{number % 2}", _LONG, Surroundings(file_size=limit))
        return _fails(run, ["error: cannot ", "File too large"])

    return _repeat("file-size", tries, attempt)


def descriptors(scene: Scene, tries: int) -> Tally:
    """A process may open 24 to 64 files, and has sixteen loader workers."""

    def attempt(number: int) -> Outcome:
        limit = scene.rng.randint(24, 64)
        words = (*_LONG, "DATA_LOADER.NUM_WORKERS", "16")
        run = scene.start(f"descriptors{number}", words, Surroundings(descriptors=limit))
        return _fails(run, ["error: ", "Too many open files"])

    return _repeat("descriptors", tries, attempt)


def shared_memory(scene: Scene, tries: int) -> Tally:
    """/dev/shm has room for hardly anything: the run needs none of it, or says what it lacks."""
    _need_mounts()

    def attempt(number: int) -> Outcome:
        size = f"{scene.rng.randint(4, 1024)}k"
        run = scene.start(f"shm{number}", _SHORT, Surroundings(mounts=(("/dev/shm", size),)))
        run.wait_for(lambda: False, _START_S)
        return watch_end(run, {0, 1})

    return _repeat("shm", tries, attempt)


def console(scene: Scene, tries: int) -> Tally:
    """Standard output is closed, full, or a pipe without a reader: the log file goes on."""

    def attempt(number: int) -> Outcome:
        kind = ("closed", "full", "pipe")[number % 3]
        run = scene.start(f"console{number}", _SHORT, Surroundings(output=kind))
        run.wait_for(lambda: False, _START_S)
        problems, seconds = watch_end(run, {0})
        log = (run.out / "stdout.log").read_text(encoding="utf-8", errors="replace")
        if "standard output cannot be written" not in log or "saved " not in log:
            problems.append("the log is incomplete")
        return problems, seconds

    return _repeat("console", tries, attempt)


def _fails(run: Run, texts: Sequence[str]) -> Outcome:
    """The end of a run whose error is printed as soon as it happens."""
    run.wait_for(lambda: "error: " in run.console, _START_S)
    return watch_end(run, _FAILS, texts, run.workers())


def _repeat(kind: str, tries: int, attempt: Callable[[int], Outcome]) -> Tally:
    tally = Tally(kind)
    for number in range(tries):
        tally.record(*attempt(number))
    return tally


def _need_mounts() -> None:
    if not can_mount():
        raise UserError("this machine permits no mounts of one's own (unshare -Urm)", key="--kind")
