"""Lists: whatever a file holds, it is read or refused; what is written is read as it was."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slowfast.datasets.classnames import read_class_names
from slowfast.datasets.fewshot_lists import read_clip_list
from slowfast.datasets.fields import split_fields
from slowfast.datasets.lists import Item, format_path_list, read_path_list
from slowfast.datasets.make_lists import from_kinetics
from slowfast.utils.errors import UserError
from slowfast.utils.text import name_problem
from tests.fuzz.conftest import bounded, found_cases

# Pieces of which lines consist, so that many are nearly right.
PIECES = st.sampled_from(
    ["a.mp4", "b c.mp4", '"', '""', " ", "  ", ",", ";", "\t", "\n", "\r\n", "\r", "0", "-1", "12"]
    + ["9" * 30, "path", "label", "\ufeff", "\u00a0", "\0", "\x1b", "ä", "/", "#", "1e5", "²", "'"]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=30).map("".join), st.text(max_size=60))
FILES = st.one_of(
    TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.tuples(
        TEXTS, st.sampled_from(["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])
    ).map(lambda pair: pair[0].encode(pair[1], "replace")),
    st.binary(max_size=80),
)


def read_all(file: Path, folder: Path) -> None:
    """Read a file as every kind of list; each gives a value or one message of bounded length."""
    readers = [lambda s=s: read_path_list(file, s, "/data", "K") for s in (" ", ",", "\t", "")]
    readers += [lambda: read_clip_list(file), lambda: from_kinetics([file], folder)]
    readers += [lambda: read_class_names(file), lambda: read_class_names(json_copy)]
    json_copy = file.with_name("fuzzed.json")
    json_copy.write_bytes(file.read_bytes())
    for read in readers:
        try:
            found = read()
        except UserError as error:
            assert str(error).strip() and len(str(error)) < 3000
            continue
        if isinstance(found, list):
            names = [getattr(row, "path", row) for row in found]
            assert found and not any(isinstance(n, str) and name_problem(n) for n in names)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lists")
    (folder / "videos").mkdir()
    (folder / "videos/a.mp4").touch()
    return folder


@bounded(100)
@given(data=FILES)
def test_any_file(data, place):
    (place / "list.csv").write_bytes(data)
    read_all(place / "list.csv", place / "videos")


@pytest.mark.parametrize("case", found_cases("lists"), ids=lambda path: path.name)
def test_found_cases(case, place):
    (place / "list.csv").write_bytes(case.read_bytes())
    read_all(place / "list.csv", place / "videos")


PATHS = st.one_of(st.text(min_size=1, max_size=20), st.lists(PIECES, min_size=1).map("".join))


@bounded(100)
@given(paths=st.lists(PATHS, min_size=1, max_size=6), counted=st.booleans())
def test_what_is_written_is_read(paths, counted, place):
    items = [Item(path, label, 5) for label, path in enumerate(paths)]
    if any(name_problem(path) for path in paths):
        with pytest.raises(UserError):
            format_path_list(items, counted)
        return
    (place / "written.csv").write_text(
        format_path_list(items, counted), encoding="utf-8", newline=""
    )
    found = read_path_list(place / "written.csv", " ", "", "K")
    assert [(i.path, i.label) for i in found] == [(i.path, i.label) for i in items]
    assert all(item.num_frames == (5 if counted else 0) for item in found)


FIELDS = st.lists(st.text('ab,"; x', min_size=1).filter(lambda t: t == t.strip()), min_size=2)


@bounded(100)
@given(fields=FIELDS)
def test_fields_are_those_of_the_csv_module(fields):
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="").writerow(fields)
    assert split_fields(file.getvalue(), ",") == fields
