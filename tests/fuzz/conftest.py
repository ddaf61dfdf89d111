"""Fuzz tests of readers: one file per reader, found cases under ``cases/<reader>/``.

A reader gives a value or a :class:`UserError` for every input; any other exception fails its test.
The draws are fixed (``derandomize``), so that the suite is the same every time; more of them:

    SLOWFAST_FUZZ=100 python -m pytest tests/fuzz    # a hundred times as many, drawn at random
"""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings

CASES = Path(__file__).parent / "cases"
_FACTOR = int(os.environ.get("SLOWFAST_FUZZ", "0"))


def bounded(examples: int) -> settings:
    """Settings of a fuzz test with ``examples`` draws in the suite."""
    return settings(
        max_examples=examples * max(_FACTOR, 1),
        derandomize=not _FACTOR,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )


def found_cases(reader: str) -> list[Path]:
    """The files that once were not read as they should be, of one reader."""
    return sorted(path for path in (CASES / reader).iterdir() if path.is_file())
