"""YAML configuration files as a list of dotted entries that know file and line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slowfast.utils.errors import UserError
from slowfast.utils.files import path_manager

BASE_KEY = "_BASE_"


@dataclass(frozen=True)
class Entry:
    """One ``key = value`` and where it stands."""

    key: str
    value: Any
    origin: str


def read_yaml(path: str | Path) -> list[Entry]:
    """The entries of a file, those of its ``_BASE_`` files first; UserError if unreadable."""
    return _read(Path(path), ())


def _read(path: Path, parents: tuple[Path, ...]) -> list[Entry]:
    if path in parents:
        raise UserError(f"{path} includes itself through {BASE_KEY}", key=BASE_KEY)
    try:
        with path_manager.open(str(path)) as file:
            root = yaml.compose(file, Loader=yaml.SafeLoader)
    except FileNotFoundError:
        remedy = f"it is named as {BASE_KEY} by {parents[-1]}" if parents else "check --cfg"
        raise UserError(f"there is no configuration file {path}", remedy, "--cfg") from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise UserError(f"{path} is not valid YAML: {error}", key="--cfg") from error
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path} must hold KEY: VALUE lines", key="--cfg")
    inherited: list[Entry] = []
    own: list[Entry] = []
    for entry in _flatten(root, "", str(path)):
        if entry.key != BASE_KEY:
            own.append(entry)
            continue
        for base in entry.value if isinstance(entry.value, list) else [entry.value]:
            inherited += _read(path.parent / base, (*parents, path))
    return inherited + own


def _flatten(node: yaml.MappingNode, prefix: str, path: str) -> list[Entry]:
    entries: list[Entry] = []
    for key_node, value_node in node.value:
        key = f"{prefix}{key_node.value}"
        if isinstance(value_node, yaml.MappingNode):
            entries += _flatten(value_node, f"{key}.", path)
        else:
            line = key_node.start_mark.line + 1
            entries.append(Entry(key, _construct(value_node), f"{path}:{line}"))
    return entries


def _construct(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()
