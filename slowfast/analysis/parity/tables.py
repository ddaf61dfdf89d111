"""Parity tables: arguments and results of the published code, row by row.

This module compares; ``tables_video``, ``tables_engine`` and ``tables_multigrid`` compute the rows
of each table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

TOLERANCE = 1e-5
Row = dict[str, Any]
# Name of a table -> function: row -> (ours, expected) pairs. Tables without rows are one row.
TABLES: dict[str, Callable[[Row], list[tuple[Any, Any]]]] = {}


def table(name: str) -> Callable:
    """Decorator: the function that compares a row of the table ``name``."""

    def add(function: Callable) -> Callable:
        TABLES[name] = function
        return function

    return add


def run_table(content: dict[str, Any]) -> tuple[list[str], int]:
    """(descriptions of the rows that differ, number of rows)."""
    rows = content.get("rows") or [content]
    compare = TABLES[content["table"]]
    wrong = []
    for number, row in enumerate(rows):
        for ours, expected in compare(row):
            if not same(ours, expected):
                wrong.append(f"row {number}: {_short(ours)} instead of {_short(expected)}")
                break
    return wrong, len(rows)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def same(ours: Any, expected: Any) -> bool:
    """Whether two results agree: floats within 1e-5 of the largest one of their array, all other
    values exactly."""
    if isinstance(expected, dict):
        return set(ours) == set(expected) and all(same(ours[k], expected[k]) for k in expected)
    if isinstance(expected, str) or expected is None or isinstance(expected, bool):
        return ours == expected
    if isinstance(expected, list) and any(isinstance(v, (str, dict)) for v in _leaves(expected)):
        return len(ours) == len(expected) and all(map(same, ours, expected))
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if a.shape != b.shape:
        return False
    whole = all(isinstance(v, int) for v in _leaves(expected))
    limit = 0.0 if whole else TOLERANCE * max(np.abs(b).max(initial=0.0), 1e-12)
    return bool(np.abs(a - b).max(initial=0.0) <= limit)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def as_tensor(value: Any) -> torch.Tensor:
    """Nested lists -> float32."""
    return torch.tensor(value, dtype=torch.float32)
