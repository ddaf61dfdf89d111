"""Clear messages for common failures: dead loader workers, no memory, a full disk."""

from __future__ import annotations

import re

from slowfast.utils.distributed import lost_process
from slowfast.utils.errors import RunFailure
from slowfast.utils.files import failure_of

_RESUMES = "the same command then resumes from the last checkpoint"
# Errors of the system that PyTorch reports as text.
_SYSTEM = {
    "shared memory": "enlarge /dev/shm, or lower DATA_LOADER.NUM_WORKERS",
    "too many open files": "raise the number of files that a process may open (ulimit -n 4096), "
    "or lower DATA_LOADER.NUM_WORKERS",
    "no space left on device": "free some space",
}


def explain_failure(error: RuntimeError | OSError | MemoryError) -> RunFailure | None:
    """The known failure that caused an error of PyTorch or the system, or None."""
    if isinstance(error, OSError):
        return _with_resume(failure_of(error))
    return _memory(error) or _worker(error) or _system(error) or lost_process(error)


def _with_resume(failure: RunFailure) -> RunFailure:
    (problem,) = failure.problems
    remedy = f"{problem.remedy}; {_RESUMES}" if problem.remedy else _RESUMES
    return RunFailure(problem.message, remedy, problem.key)


def _system(error: RuntimeError) -> RunFailure | None:
    lines = str(error).strip().splitlines()
    for part, remedy in _SYSTEM.items():
        for line in lines:
            if part in line.lower():
                return _with_resume(RunFailure(line.strip()[-200:], remedy))
    return None


def _worker(error: RuntimeError) -> RunFailure | None:
    text = str(error)
    match = re.search(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\) (.*)", text, re.S)
    if match is None:
        return None
    pids, reason = match[1].strip(), match[2].strip().splitlines()[0].rstrip(". ")
    if "bus error" in text.lower():
        remedy = "shared memory ran out: enlarge /dev/shm or lower DATA_LOADER.NUM_WORKERS"
    else:
        remedy = (
            "usually memory ran out (see the system's log): lower DATA_LOADER.NUM_WORKERS or "
            "DATA_LOADER.PREFETCH_FACTOR; tools/check_data.py finds files that crash the decoder; "
            "the same command resumes from the last checkpoint"
        )
    return RunFailure(f"loader worker {pids} died: {reason}", remedy, "DATA_LOADER.NUM_WORKERS")


def _memory(error: RuntimeError | MemoryError) -> RunFailure | None:
    text = str(error)
    on_device = type(error).__name__ == "OutOfMemoryError"  # its module differs between releases
    on_machine = isinstance(error, MemoryError) or "can't allocate memory" in text
    if not on_device and not on_machine:
        return None
    return RunFailure(
        f"memory ran out {'on the device' if on_device else 'on the machine'}: "
        f"{(text.splitlines() or ['no more is to be had'])[0][:200]}",
        "lower TRAIN.BATCH_SIZE (raising SOLVER.ACCUM_STEPS keeps the effective batch), or set "
        "TRAIN.MIXED_PRECISION or MODEL.ACT_CHECKPOINT True",
        "TRAIN.BATCH_SIZE",
    )
