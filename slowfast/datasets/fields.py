"""Lines of lists in their fields: quotes, headers, numbers of any length."""

from __future__ import annotations

import re

_WHOLE = re.compile(r"-?[0-9]+")
_COUNT = re.compile(r"[0-9]+")
_MAX_DIGITS = 18  # of a number that 64 bits hold
_QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"')

# Words of which the column names of published lists consist: "video_id", "num frames", "labels".
_HEADER_WORD = re.compile(
    r"(?:absolute|category|categories|class|classes|clip|clips|count|counts|duration|end|file"
    r"|filename|filenames|files|folder|fps|frame|frames|full|height|id|ids|idx|index|label|labels"
    r"|length|n|name|names|num|number|of|original|path|paths|relative|sample|split|start|target"
    r"|targets|time|video|videos|vido|width|y|youtube)"
)


def is_whole(text: str) -> bool:
    """Whether a text is a whole number, of any length."""
    return _WHOLE.fullmatch(text) is not None


def is_count(text: str) -> bool:
    """Whether a text is a whole number from 0."""
    return _COUNT.fullmatch(text) is not None


def to_int(text: str, what: str) -> int:
    """A text of digits as its number; ValueError, which names ``what`` it is, if it is too long."""
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"the {what} is a number of {len(text)} digits")
    return int(text)


def split_fields(line: str, separator: str) -> list[str]:
    """The fields of a line, stripped; one in quotes may hold the separator, and quotes doubled.

    ValueError, as what follows the line, if a quote is not closed.
    """
    fields, start = [], 0
    while True:
        while line[start : start + 1].isspace() and line[start : start + 1] != separator:
            start += 1
        if line[start : start + 1] == '"':
            found = _QUOTED.match(line, start)
            if not found:
                raise ValueError("has a quote that is not closed")
            fields.append(found[1].replace('""', '"'))
            end = found.end()
            while line[end : end + 1].isspace() and line[end : end + 1] != separator:
                end += 1
            if end < len(line) and not line.startswith(separator, end):
                raise ValueError("goes on after a closed quote")
        else:
            end = line.find(separator, start)
            end = len(line) if end < 0 else end
            fields.append(line[start:end].strip())
        if end >= len(line):
            return fields
        start = end + len(separator)


def cut_last(line: str, separator: str) -> tuple[str, str]:
    """(what stands before the last separator, what after it), both stripped."""
    head, _, last = line.rpartition(separator)
    return head.strip(), last.strip()


def quote(path: str) -> str:
    """A path as it stands in a line that is separated by spaces: in quotes where it would not be
    read as it is."""
    is_plain = path == " ".join(path.split()) and not path.startswith(('"', "\ufeff"))
    if is_plain and not is_whole(path.rsplit(" ", 1)[-1]):
        return path
    doubled = path.replace('"', '""')
    return f'"{doubled}"'


def is_header(line: str) -> bool:
    """Whether a line names columns, such as ``path,label`` or ``video_id num_frames label``."""
    cells = [cell.strip("\"'# ") for cell in re.split(r"[,;\t ]", line.lower()) if cell.strip()]
    words = [word for cell in cells for word in re.split(r"[_.-]", cell)]
    return len(cells) > 1 and all(_HEADER_WORD.fullmatch(word) for word in words)
