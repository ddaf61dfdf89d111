"""Files of embeddings: what is read is what was written, or it is refused by name."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from slowfast.inference.embeddings import parquet as parquet_module
from slowfast.inference.embeddings.facts import Facts
from slowfast.inference.embeddings.parquet import Row, VectorFile, write_file
from slowfast.utils.errors import UserError
from slowfast.utils.files import short_hash
from tests.inference.embeddings.made import FACTS, unit_rows, write

parquet = pytest.importorskip("pyarrow.parquet")


def test_rows_come_back_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_module, "_GROUP_BYTES", 2 * 16 * 30)  # row groups of 30
    vectors = unit_rows(100)
    file = VectorFile(write(tmp_path / "a.parquet", vectors))
    assert file.rows == 100 and file.facts == FACTS
    assert parquet.ParquetFile(file.path).num_row_groups == 4
    pieces = list(file.vectors(2 * 16 * 7))
    assert max(map(len, pieces)) == 7 and pieces[0].dtype == np.float16
    assert np.array_equal(np.concatenate(pieces), vectors.astype(np.float16))
    found = file.found([95, 3, 30])
    assert [(row.path, row.start, row.end) for row in found] == [
        ("a.mp4", 190.0, 192.0),
        ("a.mp4", 6.0, 8.0),
        ("a.mp4", 60.0, 62.0),
    ]
    assert found[0].scores.tolist() == [0.25, 0.75]


def test_memory_does_not_grow_with_the_file(tmp_path):
    """While a file of one large row group passes through, little of it is held."""
    import pyarrow

    vectors = np.tile(unit_rows(100, 256), (600, 1))  # 30 MB
    schema = pyarrow.schema(
        parquet.ParquetFile(write(tmp_path / "small", vectors[:5])).schema_arrow
    )
    flat = pyarrow.array(vectors.astype(np.float16).reshape(-1))
    count = len(vectors)
    columns = {name: pyarrow.nulls(count).cast(t) for name, t in zip(schema.names, schema.types)}
    columns["path"] = pyarrow.array(["a.mp4"] * count)
    columns["norm"] = pyarrow.array([1.0] * count, pyarrow.float32())
    half = pyarrow.array(np.zeros(2 * count, np.float16))
    columns["scores"] = pyarrow.FixedSizeListArray.from_arrays(
        half, type=schema.field("scores").type
    )
    columns["vector"] = pyarrow.FixedSizeListArray.from_arrays(
        flat, type=schema.field("vector").type
    )
    table = pyarrow.Table.from_arrays(list(columns.values()), schema=schema)
    parquet.write_table(table, tmp_path / "large", row_group_size=count, write_page_checksum=True)
    del table, columns, flat, half
    before, held = pyarrow.total_allocated_bytes(), []
    for _ in VectorFile(tmp_path / "large").vectors(1 << 18):
        held.append(pyarrow.total_allocated_bytes() - before)
    assert len(held) > 100 and max(held) < 8 << 20


def test_other_programs_read_them(tmp_path):
    """The columns and their types are plain Parquet."""
    path = write(tmp_path / "a.parquet", unit_rows(3))
    table = parquet.read_table(path)
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert types == {
        "path": "string",
        "start": "double",
        "end": "double",
        "norm": "float",
        "scores": "fixed_size_list<element: halffloat not null>[2]",
        "vector": "fixed_size_list<element: halffloat not null>[16]",
    }
    assert table.column("norm").to_pylist() == [1.0, 2.0, 3.0]
    facts = json.loads(table.schema.metadata[b"slowfast"])
    assert facts["weights"] == "ab" * 32 and facts["classes"] == ["left", "right"]
    assert facts["dimension"] == 16 and facts["normalisation"] == "unit length"


def test_whole_videos_and_networks_without_classes(tmp_path):
    facts = replace(FACTS, classes=[], window=0.0)
    vector = unit_rows(1)[0]
    write_file(tmp_path / "a.parquet", facts, [Row("a", None, None, vector, 1.0, np.empty(0))])
    (found,) = VectorFile(tmp_path / "a.parquet").found([0])
    assert (found.start, found.end, len(found.scores)) == (None, None, 0)
    assert write_file(tmp_path / "b.parquet", facts, []) == 0
    empty = VectorFile(tmp_path / "b.parquet")
    assert empty.rows == 0 and list(empty.vectors()) == [] and empty.found([]) == []


def test_equal_rows_are_equal_files_and_a_failure_leaves_none(tmp_path):
    vectors = unit_rows(50)
    first = write(tmp_path / "a.parquet", vectors).read_bytes()
    assert write(tmp_path / "a.parquet", vectors).read_bytes() == first

    def rows():
        yield Row("a", 0.0, 1.0, vectors[0], 1.0, np.zeros(2))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "a.parquet", FACTS, rows())
    assert (tmp_path / "a.parquet").read_bytes() == first and len(list(tmp_path.iterdir())) == 1


def test_damage_is_noticed(tmp_path):
    """A cut, and a flipped bit in any part of a vector or of the description."""
    good = write(tmp_path / "a.parquet", unit_rows(200)).read_bytes()
    path = tmp_path / "b.parquet"
    expected = np.concatenate(list(VectorFile(tmp_path / "a.parquet").vectors()))

    def read(data: bytes) -> str:
        path.write_bytes(data)
        try:
            file = VectorFile(path)
            found = np.concatenate(list(file.vectors()))
            rows = file.found(list(range(200)))
        except UserError as error:
            assert "b.parquet" in str(error)
            return "refused"
        same = np.array_equal(found, expected) and file.facts == FACTS
        return "same" if same and [row.start for row in rows][:2] == [0.0, 2.0] else "other"

    assert read(good) == "same"
    assert all(read(good[:size]) == "refused" for size in range(0, len(good), 997))
    place = good.index(expected[10:12].tobytes())
    answers = []
    for where in [place, place + 31, *range(50, len(good), 211)]:
        data = bytearray(good)
        data[where] ^= 4
        answers.append(read(bytes(data)))
    assert answers[:2] == ["refused", "refused"] and "other" not in answers


def test_other_files(tmp_path):
    import pyarrow

    for name, data in (("empty", b""), ("text", b"hello" * 100)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=f"{name} is damaged or no Parquet file"):
            VectorFile(tmp_path / name)
    with pytest.raises(UserError, match="there is no file"):
        VectorFile(tmp_path / "absent")
    table = pyarrow.table({"x": [1]})
    parquet.write_table(table, tmp_path / "x")
    with pytest.raises(UserError, match="x holds no embeddings"):
        VectorFile(tmp_path / "x")
    for facts, message in (
        ("[]", "of another kind"),
        (replace(FACTS, format=9).text(), "format 9"),
        (FACTS.text(), "other columns"),
    ):
        described = {"slowfast": facts, "slowfast.sha256": short_hash(facts)}
        parquet.write_table(table.replace_schema_metadata(described), tmp_path / "x")
        with pytest.raises(UserError, match=message):
            VectorFile(tmp_path / "x")


def test_what_differs_is_named():
    assert Facts.read(FACTS.text()) == FACTS
    others = {
        "network Network and Other": replace(FACTS, network="Other"),
        "dimension 16 and 8": replace(FACTS, dimension=8),
        "weights abababababab and cccccccccccc": replace(FACTS, weights="c" * 64),
        "DATA.NUM_FRAMES 8 and 16": replace(FACTS, configuration={"DATA.NUM_FRAMES": 16}),
    }
    assert {text: FACTS.difference(other) for text, other in others.items()} == {
        text: text for text in others
    }
    moved = replace(FACTS, checkpoint="elsewhere", window=9.0)
    assert FACTS.difference(moved) == ""


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match=r'pip install "slowfast\[embed\]"'):
        VectorFile("x")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"dimension": "x"}, "dimension: 'x'"),
        ({"dimension": -5}, "-5 numbers"),
        ({"dimension": 2**40}, "numbers"),
        ({"classes": 5}, "classes: 5"),
        ({"classes": [1]}, "name of a class"),
        ({"configuration": [1]}, "configuration: \\[1"),
        ({"configuration": {"IMPORTS": ["hostile"]}}, "has IMPORTS, which a file may not set"),
        ({"window": "a"}, "window: 'a'"),
        ({"stride": math.inf}, "stride: inf"),
        ({"checkpoint": None}, "checkpoint: None"),
    ],
)
def test_hostile_descriptions_are_refused(tmp_path, change, message):
    """Also one that asks for modules: search would import them with the network."""
    table = parquet.read_table(write(tmp_path / "a.parquet", unit_rows(3)))
    text = json.dumps(json.loads(FACTS.text()) | change)
    described = {"slowfast": text, "slowfast.sha256": short_hash(text)}
    parquet.write_table(table.replace_schema_metadata(described), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=f"another kind: .*{message}"):
        VectorFile(tmp_path / "a.parquet")


def test_paths_that_a_terminal_would_obey(tmp_path):
    row = Row("a\x1b]0;b\x07.mp4", 0.0, 2.0, unit_rows(1)[0], 1.0, np.array([0.25, 0.75]))
    write_file(tmp_path / "a.parquet", FACTS, [row])
    with pytest.raises(UserError, match="a.parquet is damaged.*control character"):
        VectorFile(tmp_path / "a.parquet").found([0])
