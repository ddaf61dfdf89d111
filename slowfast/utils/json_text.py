"""JSON that every program can read."""

from __future__ import annotations

import json
import math
from typing import Any


def json_text(value: Any, **options: Any) -> str:
    """``value`` as JSON, with the options of :func:`json.dumps`.

    JSON has no numbers that are not finite: they become the texts ``nan``, ``inf`` and ``-inf``,
    which ``float`` reads.
    """
    return json.dumps(with_finite_numbers(value), allow_nan=False, **options)


def with_finite_numbers(value: Any) -> Any:
    """``value``, with texts instead of the numbers that JSON does not have, at any depth."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if isinstance(value, dict):
        return {with_finite_numbers(k): with_finite_numbers(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_finite_numbers(item) for item in value]
    return value
