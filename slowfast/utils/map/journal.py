"""What has been done so far: a file to which a line is added for every item."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from slowfast.utils.errors import UserError
from slowfast.utils.files import append_line, make_dirs, remove_leftovers, write_text_atomic
from slowfast.utils.locks import folder_lock
from slowfast.utils.map.work import Result

_HEAD = "options"


class Row(NamedTuple):
    """The ``result`` of an item; ``stamp``: a text that changes when it has to be done again."""

    key: str
    stamp: str
    result: Result

    def text(self) -> str:
        """Its line."""
        return json.dumps(self._asdict())


class Journal:
    """The JSON-lines file ``path``. Its first line holds the ``options`` on which all results
    depend; one line for each item follows.

    A line that a killed process has left half written is passed over.
    """

    def __init__(self, path: str | Path, options: Mapping[str, Any]):
        self.path = Path(path)
        self.options = json.loads(json.dumps(dict(options)))

    def begin(self, anew: bool = False) -> list[Row]:
        """The rows so far, the last one of each key. ``anew``: none, the file is written again.

        UserError if they were made with other options.
        """
        if anew or not self.path.exists():
            self._write({})
            return []
        return self.rows_of_part(self.path)

    def rows_of_part(self, path: str | Path) -> list[Row]:
        """The rows of another journal of the same work; UserError as :meth:`begin`."""
        self._check(path)
        return list({row.key: row for row in rows_of(path)}.values())

    def add(self, row: Row) -> None:
        """Append a row; it is in the file when this returns."""
        append_line(self.path, row.text())

    def finish(self, rows: Mapping[str, Row]) -> None:
        """Write the file again with one line for each row: those that are not among ``rows`` stay
        in front, these follow in their order. The file is the same however often the work was
        stopped."""
        others = {row.key: row for row in rows_of(self.path) if row.key not in rows}
        self._write({**others, **rows})

    def _write(self, rows: Mapping[str, Row]) -> None:
        lines = [json.dumps({_HEAD: self.options})] if self.options else []
        lines += [row.text() for row in rows.values()]
        write_text_atomic(self.path, "".join(f"{line}\n" for line in lines))

    def _check(self, path: str | Path) -> None:
        found = _options_of(path)
        if found is None or found == self.options:  # None: written before there was such a line
            return
        names = [n for n in {**found, **self.options} if found.get(n) != self.options.get(n)]
        shown = ", ".join(f"{n} {found.get(n)!r}, now {self.options.get(n)!r}" for n in names)
        remedy = "repeat it as it was, name another place to write to, or start again with --anew"
        raise UserError(f"was begun with other options: {shown}", remedy, str(path))


@contextlib.contextmanager
def opened(path: str | Path, options: Mapping[str, Any]) -> Iterator[Journal]:
    """The journal ``path``, which no other process uses meanwhile; UserError naming the one that
    does."""
    make_dirs(Path(path).parent)
    with folder_lock(Path(path).parent):
        remove_leftovers([path])
        yield Journal(path, options)


def rows_of(path: str | Path) -> Iterator[Row]:
    """The lines of a journal that are whole."""
    for content in _lines(path):
        key, stamp, result = (content.get(name) for name in Row._fields)
        if isinstance(key, str) and isinstance(stamp, str) and isinstance(result, dict):
            yield Row(key, stamp, result)


def _options_of(path: str | Path) -> dict[str, Any] | None:
    first = next(_lines(path), {})
    return first.get(_HEAD) if isinstance(first.get(_HEAD), dict) else None


def _lines(path: str | Path) -> Iterator[dict[str, Any]]:
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                content = json.loads(line)
            except (ValueError, RecursionError):
                continue  # an incomplete line
            if isinstance(content, dict):
                yield content


def file_stamp(path: str | Path) -> str:
    """Size and modification time of a file, as a text; empty if the file does not exist."""
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns}"
