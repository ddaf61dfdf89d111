"""The file in which each finished item has a line."""

from __future__ import annotations

import pytest

from slowfast.utils.errors import UserError
from slowfast.utils.map.journal import Journal, Row, file_stamp, opened, rows_of


def test_what_is_not_whole_is_passed_over(tmp_path):
    path = tmp_path / "journal.jsonl"
    with opened(path, {"side": 256}) as book:
        assert book.begin() == []
        book.add(Row("a", "1", {"x": 1}))
    with path.open("a") as file:
        file.write('{"key": "b", "stamp": "1", "result": {"x"')  # its process was killed
    with opened(path, {"side": 256}) as book:
        assert book.begin() == [Row("a", "1", {"x": 1})]
        book.add(Row("c", "1", {}))
        book.add(Row("a", "2", {"x": 2}))
    path.write_text(path.read_text() + '[1]\n{"key": 3, "stamp": "", "result": {}}\n' + "[" * 9999)
    assert [row.key for row in rows_of(path)] == ["a", "c", "a"]
    with opened(path, {"side": 256}) as book:
        assert {row.key: row.stamp for row in book.begin()} == {"a": "2", "c": "1"}
        book.finish({"a": Row("a", "2", {"x": 2})})
    assert [row.key for row in rows_of(path)] == ["c", "a"]


def test_options(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text(Row("a", "1", {}).text() + "\n")  # of a version without options
    assert Journal(path, {"side": 1}).begin() == [Row("a", "1", {})]
    Journal(path, {"side": 1}).finish({})
    with pytest.raises(UserError, match="side 1, now None, size None, now 2"):
        Journal(path, {"size": 2}).begin()
    assert Journal(path, {"size": 2}).begin(anew=True) == [] and not list(rows_of(path))


def test_stamp(tmp_path):
    file = tmp_path / "a"
    assert file_stamp(file) == "" == file_stamp("a\0b")
    file.write_text("x")
    assert file_stamp(file).startswith("1 ")
