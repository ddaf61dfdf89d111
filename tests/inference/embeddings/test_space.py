"""Nearest neighbours: exact, the same by every engine, in memory that does not grow."""

from __future__ import annotations

import os
import resource

import numpy as np
import pytest
import torch

from slowfast.inference.embeddings import parquet as parquet_module
from slowfast.inference.embeddings import space as space_module
from slowfast.inference.embeddings.space import Space
from slowfast.utils.errors import UserError
from tests.inference.embeddings.made import by_hand, unit_rows, write

pytest.importorskip("pyarrow")
pytest.importorskip("faiss")
ENGINES = ("faiss", "torch")


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(parquet_module.VectorFile.vectors, "__defaults__", (2 * 16 * 64,))


@pytest.mark.parametrize("count", [1, 5, 40, 900])
def test_engines_agree_with_a_computation_by_hand(count, tmp_path, small_pieces):
    files = [unit_rows(300, seed=1), unit_rows(500, seed=2)]
    for number, vectors in enumerate(files):
        write(tmp_path / f"part-{number}.parquet", vectors)
    space = Space([tmp_path])
    query = torch.from_numpy(unit_rows(1, seed=3)[0]) * 7
    expected = by_hand(files, query.numpy(), count)
    results = {engine: space.nearest(query, count, engine) for engine in ENGINES}
    assert results["faiss"] == results["torch"] == space.nearest(query, count)
    assert [(place.file, place.row) for place in results["torch"]] == expected
    found = space.found(results["torch"])
    assert [(row.path, row.start) for row in found] == [
        (f"part-{file}.mp4", 2.0 * row) for file, row in expected
    ]


def test_equal_and_nearly_equal_vectors(tmp_path, small_pieces):
    """Many copies of one vector, and neighbours that differ in the last bit of a float16."""
    base = unit_rows(1, seed=5)[0]
    copies = np.repeat(base[None], 300, 0).astype(np.float16)
    rng = np.random.default_rng(6)
    for row in rng.choice(300, 150, replace=False):  # half of them differ by one step
        column = rng.integers(16)
        copies[row, column] = np.nextafter(copies[row, column], np.float16(rng.choice([-1, 1])))
    write(tmp_path / "a.parquet", copies.astype(np.float32))
    space = Space([tmp_path / "a.parquet"])
    expected = by_hand([copies], base, 60)
    for engine in ENGINES:
        places = space.nearest(torch.from_numpy(base), 60, engine)
        assert [(place.file, place.row) for place in places] == expected, engine


def test_a_million_rows_are_never_held_together(tmp_path, monkeypatch):
    """The largest array that an engine gets is a piece, whatever the file."""
    write(tmp_path / "a.parquet", unit_rows(5000))
    sizes = []
    engine = space_module._engine

    def watched(*args):
        candidates = engine(*args)
        return lambda vectors, *rest: (sizes.append(len(vectors)), candidates(vectors, *rest))[1]

    monkeypatch.setattr(space_module, "_engine", watched)
    monkeypatch.setattr(parquet_module.VectorFile.vectors, "__defaults__", (2 * 16 * 100,))
    Space([tmp_path]).nearest(torch.ones(16), 3)
    assert sum(sizes) == 5000 and max(sizes) == 100


def test_what_is_refused(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no embeddings"):
        Space([tmp_path / "empty"])
    write(tmp_path / "a.parquet", unit_rows(5))
    write(tmp_path / "b.parquet", unit_rows(5), weights="c" * 64)
    with pytest.raises(UserError, match="a.parquet and .*b.parquet are of different networks: wei"):
        Space([tmp_path])
    write(tmp_path / "b.parquet", unit_rows(5), classes=["up", "down"])
    with pytest.raises(UserError, match="different networks: other classes"):
        Space([tmp_path])
    space = Space([tmp_path / "a.parquet"])
    for query, message in (
        (torch.ones(8), "has 8 numbers, the embeddings have 16"),
        (torch.zeros(16), "has no direction"),
        (torch.full((16,), torch.nan), "has no direction"),
    ):
        with pytest.raises(UserError, match=message):
            space.nearest(query, 1)
    with pytest.raises(UserError, match="--top: is 0"):
        space.nearest(torch.ones(16), 0)
    monkeypatch.setattr(space_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="faiss is not installed"):
        space.nearest(torch.ones(16), 1, "faiss")
    assert len(space.nearest(torch.ones(16), 2)) == 2


def test_a_file_twice_counts_once(tmp_path):
    path = write(tmp_path / "a.parquet", unit_rows(5))
    assert Space([tmp_path, path]).rows == 5


def test_files_are_open_while_they_are_read(tmp_path):
    """More files than a process may have open."""
    for number in range(40):
        write(tmp_path / f"part-{number}.parquet", unit_rows(3, seed=number))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 20, hard))
    try:
        space = Space([tmp_path])
        assert len(space.nearest(torch.ones(16), 120)) == space.rows == 120
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
