"""Texts that people made with any editor on any system: read as UTF-8, shown in messages."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from slowfast.utils.remote import read_bytes

MAX_BYTES = 1 << 30  # a list of a million lines has a tenth of it
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # how Python reads the names that are not UTF-8

_OTHER_MARKS = (
    ("UTF-32", codecs.BOM_UTF32_LE),  # before UTF-16, whose mark it begins with
    ("UTF-32", codecs.BOM_UTF32_BE),
    ("UTF-16", codecs.BOM_UTF16_LE),
    ("UTF-16", codecs.BOM_UTF16_BE),
)


def read_text(path: str | Path, max_bytes: int = MAX_BYTES) -> str:
    """The text of a UTF-8 file, at a path or an address, without its byte-order mark, line ends as
    they are.

    ValueError, as what follows the name of the file, if it is no such text or has more than
    ``max_bytes``; OSError if it cannot be read.
    """
    if "\0" in str(path):
        raise FileNotFoundError(path)
    data = read_bytes(path, max_bytes)
    if len(data) > max_bytes:
        raise ValueError(f"has more than {max_bytes} bytes")
    for name, mark in _OTHER_MARKS:
        if data.startswith(mark):
            raise ValueError(f"is {name} text: save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"is not a text file: line {line} is not UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        hint = ", as in UTF-16 text: save it as UTF-8" if text.count("\0") > len(text) // 4 else ""
        raise ValueError(f"is not a text file: line {line} holds a NUL byte{hint}")
    return text


def shorten(text: str, length: int = 200) -> str:
    """``text`` for a message: one line without control characters, cut to ``length``."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= length else f"{text[:length]}… ({len(text)} characters)"


def shown(value: object) -> str:
    """``repr(value)`` for a message, cut, whatever the value is."""
    try:
        return shorten(repr(value))
    except (ValueError, RecursionError):  # an int of 5000 digits has no repr
        return f"a huge {type(value).__name__}"


def name_problem(name: str) -> str:
    """Why the name of a file or class cannot stand in a list of lines; empty if it can."""
    if _SURROGATE.search(name):
        return "is not UTF-8"
    if _CONTROL.search(name):
        return "holds a line break or another control character"
    return ""
