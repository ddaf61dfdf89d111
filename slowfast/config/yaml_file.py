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
    """One ``key = value`` and where it stands: ``origin`` for people, ``file`` if it is in one."""

    key: str
    value: Any
    origin: str
    file: Path | None = None


def read_yaml(path: str | Path) -> list[Entry]:
    """The entries of a file, those of its ``_BASE_`` files first; UserError if unreadable.

    A name without a file is one of the published configurations (:func:`find_config`).
    """
    return _read(find_config(path), ())


def find_config(path: str | Path) -> Path:
    """The file that ``--cfg`` or ``_BASE_`` names; ``path`` itself if there is none.

    Ending and ``config.yaml`` may be left out. What is not found from the current folder is looked
    for among the published ones: ``Kinetics/UNIFORMER_S``, ``configs/Kinetics/UNIFORMER_S.yaml``
    and ``uniformer_s8_k400`` (an experiment) work in every folder.
    """
    path = Path(path)
    root = published_folder()
    published = [root, root / "configs", root / "exp"] if root and not path.is_absolute() else []
    for base in (Path(), *published):
        for name in (path, path.with_name(f"{path.name}.yaml"), path / "config.yaml"):
            if (base / name).is_file():
                return base / name
    return path


def published_folder() -> Path | None:
    """The folder that holds ``configs`` and ``exp``: of the installed package, or of the clone."""
    package = Path(__file__).resolve().parent.parent
    return next((f for f in (package, package.parent) if (f / "configs/_base").is_dir()), None)


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
    for entry in _flatten(root, "", path):
        if entry.key != BASE_KEY:
            own.append(entry)
            continue
        for base in entry.value if isinstance(entry.value, list) else [entry.value]:
            beside = path.parent / base
            found = beside if beside.is_file() else find_config(base)
            inherited += _read(found if found.is_file() else beside, (*parents, path))
    return inherited + own


def _flatten(node: yaml.MappingNode, prefix: str, path: Path) -> list[Entry]:
    entries: list[Entry] = []
    for key_node, value_node in node.value:
        key = f"{prefix}{key_node.value}"
        if isinstance(value_node, yaml.MappingNode):
            entries += _flatten(value_node, f"{key}.", path)
        else:
            line = key_node.start_mark.line + 1
            entries.append(Entry(key, _construct(value_node), f"{path}:{line}", path))
    return entries


def _construct(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()
