"""A YAML file of classes that grows by one class at a time and is always whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from slowfast.utils.errors import UserError
from slowfast.utils.files import make_dirs, write_text_atomic
from slowfast.utils.logging import get_logger
from slowfast.utils.text import read_text
from slowfast.utils.yaml_text import BadYaml, load_yaml

logger = get_logger(__name__)

MAX_BYTES = 1 << 24  # 400 classes take 0.4 MB
Entry = dict[str, Any]


class ClassStore:
    """``{class: {label, field: [texts]}}``, in the order in which classes were added."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        exists = self.path.is_file() and self.path.stat().st_size > 0
        self.entries = read_classes(self.path) if exists else {}
        self._text = read_text(self.path) if exists else ""

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def add(self, name: str, entry: Entry) -> None:
        """Append a class; the file on the disk is the old one or the new one."""
        dumped = yaml.safe_dump({name: entry}, sort_keys=False, allow_unicode=True, width=1000)
        self._text += ("\n" if self._text else "") + dumped
        self.entries[name] = entry
        make_dirs(self.path.parent)
        write_text_atomic(self.path, self._text)


def read_classes(path: str | Path) -> dict[str, Entry]:
    """The classes of a YAML file; UserError if it is absent or holds something else."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}", "check the name", str(path))
    try:
        content = load_yaml(read_text(path, MAX_BYTES), MAX_BYTES)
    except BadYaml as error:
        raise UserError(f"is not valid YAML: {error}", "mend or remove it", str(path)) from None
    except (ValueError, OSError) as error:
        raise UserError(f"cannot be read: {error}", "mend or remove it", str(path)) from None
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise UserError("holds no classes", "a class and its fields are needed", str(path))
    return {str(name): entry for name, entry in content.items()}


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def match_classes(names: Sequence[str], entries: dict[str, Entry], path: str) -> list[Entry]:
    """The entry of every class, whatever its capitals and spaces. A single pair that is left over
    on both sides belongs together, with a warning; UserError for more."""
    known = {_plain(name): name for name in entries}
    found = {name: known.get(_plain(name)) for name in names}
    missing = [name for name in names if found[name] is None]
    spare = [name for name in entries if name not in found.values()]
    if len(missing) == 1 and len(spare) == 1:
        logger.warning("%s: %r is taken for %r", path, spare[0], missing[0])
        found[missing[0]] = spare[0]
        missing = []
    if missing:
        raise UserError(
            f"has no entry for {len(missing)} of {len(names)} classes, e.g. {missing[0]!r}",
            "make them: tools/text_prompts.py goes on where it was",
            path,
        )
    return [entries[found[name]] for name in names]
