"""One file of embeddings: written at once, read in pieces whose memory is bounded."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from slowfast.inference.embeddings.facts import Facts
from slowfast.utils.errors import UserError
from slowfast.utils.files import short_hash, write_atomic
from slowfast.utils.text import name_problem

_KEY, _SUM = b"slowfast", b"slowfast.sha256"  # Parquet has checksums of columns alone
_GROUP_BYTES = 16 << 20  # of the vectors of a row group, and of a piece that is read
_BUFFER_BYTES = 1 << 20  # of the file, read ahead
_LARGEST = 65504.0  # of float16


class Row(NamedTuple):
    """A window of a video: ``path``; ``start`` and ``end`` in seconds, None for the whole video;
    the ``vector`` ``D`` of length one, the ``norm`` that it had, ``scores`` of the classes."""

    path: str
    start: float | None
    end: float | None
    vector: np.ndarray
    norm: float
    scores: np.ndarray


class Found(NamedTuple):
    """A row without its vector; ``scores`` may be empty."""

    path: str
    start: float | None
    end: float | None
    scores: np.ndarray


def require(module: str) -> Any:
    """A module of PyArrow; UserError that names the extra if it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            "PyArrow, which reads and writes Parquet files, is not installed",
            'pip install "slowfast[embed]"',
            "pyarrow",
        ) from error


def write_file(path: str | Path, facts: Facts, rows: Iterable[Row]) -> int:
    """Write rows to a Parquet file, which is complete or not there; gives their number.

    Columns: ``path``, ``start``, ``end``, ``norm``, ``scores`` (float16, if there are classes) and
    ``vector`` (float16). Equal rows give equal bytes. RunFailure if it cannot be written.
    """
    counts = []

    def write(temporary: str) -> None:
        counts.append(_write(temporary, facts, rows))

    write_atomic(path, write)
    return counts[-1]


def _write(path: str, facts: Facts, rows: Iterable[Row]) -> int:
    arrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    schema = _schema(arrow, facts)
    most, count = max(_GROUP_BYTES // (2 * facts.dimension), 1), 0
    with parquet.ParquetWriter(
        path,
        schema,
        compression={"path": "zstd", **dict.fromkeys(set(schema.names) - {"path"}, "none")},
        use_dictionary=["path"],
        write_statistics=["path", "start", "end"],
        write_page_checksum=True,
    ) as writer:
        waiting: list[Row] = []
        for row in rows:
            waiting.append(row)
            if len(waiting) == most:
                writer.write_batch(_batch(arrow, schema, waiting), most)
                waiting = []
            count += 1
        if waiting:
            writer.write_batch(_batch(arrow, schema, waiting), most)
    return count


def _schema(arrow: Any, facts: Facts) -> Any:
    def vectors(size: int) -> Any:
        return arrow.list_(arrow.field("element", arrow.float16(), nullable=False), size)

    columns = [
        arrow.field("path", arrow.string(), nullable=False),
        arrow.field("start", arrow.float64()),
        arrow.field("end", arrow.float64()),
        arrow.field("norm", arrow.float32(), nullable=False),
    ]
    if facts.classes:
        columns.append(arrow.field("scores", vectors(len(facts.classes)), nullable=False))
    columns.append(arrow.field("vector", vectors(facts.dimension), nullable=False))
    text = facts.text()
    return arrow.schema(columns, {_KEY: text.encode(), _SUM: short_hash(text).encode()})


def _batch(arrow: Any, schema: Any, rows: Sequence[Row]) -> Any:
    columns = []
    for field in schema:
        values = [getattr(row, field.name) for row in rows]
        if field.name in ("scores", "vector"):
            table = np.stack(values).clip(-_LARGEST, _LARGEST).astype(np.float16)
            flat = arrow.array(table.reshape(-1))
            columns.append(arrow.FixedSizeListArray.from_arrays(flat, type=field.type))
        else:
            columns.append(arrow.array(values, field.type))
    return arrow.RecordBatch.from_arrays(columns, schema=schema)


class VectorFile:
    """A file that :func:`write_file` wrote. UserError, here and when it is read, if it is damaged
    or something else."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        with self._opened() as file:
            self.rows: int = file.metadata.num_rows
            described = file.metadata.metadata or {}
            schema = file.schema_arrow
        text = described.get(_KEY)
        if text is None:
            raise UserError(f"{self.path} holds no embeddings", "tools/embed.py writes them")
        if described.get(_SUM) != short_hash(text).encode():
            raise _damaged(self.path, "its description has changed")
        try:
            self.facts = _facts(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(f"{self.path} holds embeddings of another kind: {error}") from None
        if not schema.equals(_schema(require("pyarrow"), self.facts)):
            raise UserError(f"{self.path} has other columns than its description says")

    def vectors(self, most_bytes: int = _GROUP_BYTES) -> Iterator[np.ndarray]:
        """All vectors in order, in arrays float16 ``n D`` of at most ``most_bytes``."""
        size = max(most_bytes // (2 * self.facts.dimension), 1)
        with self._opened() as file:
            for batch in file.iter_batches(size, columns=["vector"], use_threads=False):
                column = batch.column(0)
                flat = column.flatten().to_numpy(zero_copy_only=False, writable=True)
                yield flat.reshape(len(column), self.facts.dimension)

    def found(self, rows: Sequence[int]) -> list[Found]:
        """The rows of these numbers, in any order."""
        made: dict[int, Found] = {}
        names = ["path", "start", "end", *(["scores"] if self.facts.classes else [])]
        start = 0
        with self._opened() as file:
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                wanted = sorted({row for row in rows if start <= row < stop})
                if wanted:
                    table = file.read_row_group(group, columns=names)
                    columns = table.take([row - start for row in wanted]).to_pydict()
                    scores = columns.get("scores", [()] * len(wanted))
                    parts = zip(columns["path"], columns["start"], columns["end"], scores)
                    for row, (path, begin, end, classes) in zip(wanted, parts):
                        if name_problem(path):  # a terminal would obey it
                            raise _damaged(self.path, f"a path {name_problem(path)}")
                        made[row] = Found(path, begin, end, np.asarray(classes, np.float32))
                start = stop
        return [made[row] for row in rows]

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        """The file, open no longer than it is read: a collection has thousands of them."""
        parquet, errors = require("pyarrow.parquet"), require("pyarrow").ArrowException
        try:
            # Without a buffer of its own, PyArrow holds whole row groups, or the whole file.
            with parquet.ParquetFile(
                self.path,
                pre_buffer=False,
                buffer_size=_BUFFER_BYTES,
                page_checksum_verification=True,
            ) as file:
                yield file
        except FileNotFoundError:
            raise UserError(f"there is no file {self.path}") from None
        except (errors, OSError, UnicodeDecodeError, OverflowError) as error:
            raise _damaged(self.path, " ".join(str(error).split())[:200]) from error


@functools.lru_cache(4)
def _facts(text: bytes) -> Facts:
    """Thousands of files say the same."""
    return Facts.read(text)


def _damaged(path: Path, cause: str) -> UserError:
    remedy = "remove it, and repeat tools/embed.py, which writes it again"
    return UserError(f"{path} is damaged or no Parquet file: {cause}", remedy)
