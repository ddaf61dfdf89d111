"""Made-up embeddings for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from slowfast.inference.embeddings.facts import Facts
from slowfast.inference.embeddings.parquet import Row, write_file

FACTS = Facts(
    "Network",
    "ab" * 32,
    "w.pyth",
    {"DATA.NUM_FRAMES": 8},
    16,
    ["left", "right"],
    "probability",
    2.0,
)


def unit_rows(count: int, dimension: int = 16, seed: int = 0) -> np.ndarray:
    """Random vectors of length one: float32 ``count dimension``."""
    values = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def write(path: Path, vectors: np.ndarray, **facts: object) -> Path:
    """A file of these vectors, windows of two seconds of ``path``.mp4."""
    rows = [
        Row(f"{path.stem}.mp4", 2.0 * n, 2.0 * n + 2, vector, 1.0 + n, np.array([0.25, 0.75]))
        for n, vector in enumerate(vectors)
    ]
    described = replace(FACTS, dimension=vectors.shape[1], **facts)
    assert write_file(path, described, rows) == len(rows)
    return path


def by_hand(files: Sequence[np.ndarray], query: np.ndarray, count: int) -> list[tuple[int, int]]:
    """(file, row) of the nearest vectors, as stored, in double precision."""
    query = query.astype(np.float64) / np.linalg.norm(query.astype(np.float64))
    query = query.astype(np.float32).astype(np.float64)
    rows = [
        (-float((v.astype(np.float16).astype(np.float64) * query).sum()), f, n)
        for f, vectors in enumerate(files)
        for n, v in enumerate(vectors)
    ]
    return [(f, n) for _, f, n in sorted(rows)[:count]]
