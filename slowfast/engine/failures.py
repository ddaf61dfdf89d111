"""Failures that people meet, told in their words: dead workers, no memory, a full disk."""

from __future__ import annotations

import errno
import re

from slowfast.utils.distributed import lost_process
from slowfast.utils.errors import RunFailure

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def explain_failure(error: RuntimeError | OSError) -> RunFailure | None:
    """The failure behind an error of torch or the system; None if it is not a known one."""
    if isinstance(error, OSError):
        return _disk(error)
    return _memory(error) or _worker(error) or lost_process(error)


def _disk(error: OSError) -> RunFailure | None:
    if error.errno not in _NO_SPACE:
        return None
    return RunFailure(
        f"cannot write {error.filename or 'to OUTPUT_DIR'}: {error.strerror}",
        "free space; the same command goes on from the last checkpoint",
        "OUTPUT_DIR",
    )


def _worker(error: RuntimeError) -> RunFailure | None:
    text = str(error)
    found = re.search(r"DataLoader worker \(pid\(?s?\)? ([\d, ]+)\) (.*)", text, re.S)
    if found is None:
        return None
    pids, how = found[1].strip(), found[2].strip().splitlines()[0].rstrip(". ")
    if "bus error" in text.lower():
        remedy = "shared memory ran out: enlarge /dev/shm or lower DATA_LOADER.NUM_WORKERS"
    else:
        remedy = (
            "usually memory ran out (see the system's log): lower DATA_LOADER.NUM_WORKERS or "
            "DATA_LOADER.PREFETCH_FACTOR; a file that crashes the decoder is found by "
            "tools/check_data.py; the same command goes on from the last checkpoint"
        )
    return RunFailure(f"loader worker {pids} died: {how}", remedy, "DATA_LOADER.NUM_WORKERS")


def _memory(error: RuntimeError) -> RunFailure | None:
    text = str(error)
    on_device = type(error).__name__ == "OutOfMemoryError"  # its place differs between releases
    if not on_device and "can't allocate memory" not in text:
        return None
    return RunFailure(
        f"memory ran out {'on the device' if on_device else 'on the machine'}: "
        f"{text.splitlines()[0][:200]}",
        "lower TRAIN.BATCH_SIZE (raising SOLVER.ACCUM_STEPS keeps the effective batch), or set "
        "TRAIN.MIXED_PRECISION or MODEL.ACT_CHECKPOINT True",
        "TRAIN.BATCH_SIZE",
    )
