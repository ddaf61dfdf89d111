"""Clear messages for common failures: dead loader workers, no memory, a full disk."""

from __future__ import annotations

import errno
import re

from slowfast.utils.distributed import lost_process
from slowfast.utils.errors import RunFailure

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def explain_failure(error: RuntimeError | OSError) -> RunFailure | None:
    """The known failure that caused an error of PyTorch or the system, or None."""
    if isinstance(error, OSError):
        return _disk(error)
    return _memory(error) or _worker(error) or lost_process(error)


def _disk(error: OSError) -> RunFailure | None:
    if error.errno not in _NO_SPACE:
        return None
    return RunFailure(
        f"cannot write {error.filename or 'to OUTPUT_DIR'}: {error.strerror}",
        "free some space; the same command then resumes from the last checkpoint",
        "OUTPUT_DIR",
    )


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


def _memory(error: RuntimeError) -> RunFailure | None:
    text = str(error)
    on_device = type(error).__name__ == "OutOfMemoryError"  # its module differs between releases
    if not on_device and "can't allocate memory" not in text:
        return None
    return RunFailure(
        f"memory ran out {'on the device' if on_device else 'on the machine'}: "
        f"{text.splitlines()[0][:200]}",
        "lower TRAIN.BATCH_SIZE (raising SOLVER.ACCUM_STEPS keeps the effective batch), or set "
        "TRAIN.MIXED_PRECISION or MODEL.ACT_CHECKPOINT True",
        "TRAIN.BATCH_SIZE",
    )
