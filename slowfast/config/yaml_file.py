"""YAML configuration files as a list of dotted entries that know file and line."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slowfast.utils.errors import Problem, UserError
from slowfast.utils.logging import get_logger
from slowfast.utils.text import read_text, shorten, shown
from slowfast.utils.yaml_text import BadYaml, Pair, compose_yaml, construct

logger = get_logger(__name__)

BASE_KEY = "_BASE_"
MAX_FILES = 100  # that one file includes, directly or through others
MAX_BYTES = 1 << 18  # of a file; the longest published one has 4000
MAX_KEYS = 2000  # of a file

# (key, first value, second value) in files that PySlowFast publishes: the second counts.
_PUBLISHED_REPEATS = [("DEPTH", 16, 24)]  # MVIT of MVIT_B_32x3_CONV.yaml


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
    return _read(find_config(path), (), [])


def find_config(path: str | Path) -> Path:
    """The file that ``--cfg`` or ``_BASE_`` names; ``path`` itself if there is none.

    Ending and ``config.yaml`` may be left out. What is not found from the current folder is looked
    for among the published ones: ``Kinetics/UNIFORMER_S``, ``configs/Kinetics/UNIFORMER_S.yaml``
    and ``uniformer_s8_k400`` (an experiment) work in every folder.
    """
    path = Path(path)
    if not path.name:
        return path
    root = published_folder()
    published = [root, root / "configs", root / "exp"] if root and not path.is_absolute() else []
    for base in (Path(), *published):
        for name in (path, path.with_name(f"{path.name}.yaml"), path / "config.yaml"):
            if _is_file(base / name):
                return base / name
    return path


def _is_file(path: Path) -> bool:
    """Whether there is such a file; names that no file can have are those of none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long; holds a NUL
        return False


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.realpath(one) == os.path.realpath(other)
    except (OSError, ValueError):
        return False


def published_folder() -> Path | None:
    """The folder that holds ``configs`` and ``exp``: of the installed package, or of the clone."""
    package = Path(__file__).resolve().parent.parent
    return next((f for f in (package, package.parent) if (f / "configs/_base").is_dir()), None)


def _read(path: Path, parents: tuple[Path, ...], files: list[Path]) -> list[Entry]:
    """The entries of ``path``, which is named by the last of ``parents``; adds it to ``files``."""
    files.append(path)
    if any(_is_same(path, parent) for parent in parents):
        raise UserError(f"{path} includes itself through {BASE_KEY}", key=BASE_KEY)
    if len(files) > MAX_FILES:
        raise UserError(f"{files[0]} includes more than {MAX_FILES} files", key=BASE_KEY)
    root = _compose(path, parents)
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path} must hold KEY: VALUE lines", key="--cfg")
    inherited: list[Entry] = []
    own: list[Entry] = []
    entries = _flatten(root, "", path)
    if len(entries) > MAX_KEYS:
        raise UserError(f"{path} holds more than {MAX_KEYS} keys", key="--cfg")
    for entry in entries:
        if entry.key != BASE_KEY:
            own.append(entry)
            continue
        for base in _bases(entry):
            beside = path.parent / base
            found = beside if _is_file(beside) else find_config(base)
            inherited += _read(found if _is_file(found) else beside, (*parents, path), files)
    return inherited + own


def _bases(entry: Entry) -> list[str]:
    named = entry.value if isinstance(entry.value, list) else [entry.value]
    if not named or not all(isinstance(name, str) and name for name in named):
        problem = f"must name one or several files, is {shown(entry.value)}"
        raise UserError(Problem(problem, "", BASE_KEY, entry.origin))
    return named


def _compose(path: Path, parents: tuple[Path, ...]) -> yaml.Node | None:
    try:
        text = read_text(path, MAX_BYTES)
        return compose_yaml(text, functools.partial(_may_repeat, path))
    except FileNotFoundError:
        remedy = f"it is named as {BASE_KEY} by {parents[-1]}" if parents else "check --cfg"
        problem = f"there is no configuration file {shorten(str(path))}"
        raise UserError(problem, remedy, "--cfg") from None
    except BadYaml as error:
        raise UserError(f"{path} is not valid YAML: {error}", key="--cfg") from None
    except ValueError as error:  # not a text, or too long
        raise UserError(f"{path} {error}", key="--cfg") from None
    except OSError as error:
        problem = f"{shorten(str(path))} cannot be read: {error.strerror}"
        raise UserError(problem, key="--cfg") from None


def _may_repeat(path: Path, first: Pair, second: Pair) -> bool:
    """Whether a key may stand twice: with one value, or in a published file of PySlowFast."""
    (key, one), (again, other) = first, second
    if isinstance(one, yaml.MappingNode) or isinstance(other, yaml.MappingNode):
        return False
    values = construct(one), construct(other)
    if values[0] != values[1] and (key.value, *values) not in _PUBLISHED_REPEATS:
        return False
    logger.warning(
        "%s: %s stands in lines %d and %d; its value is %r",
        path,
        key.value,
        key.start_mark.line + 1,
        again.start_mark.line + 1,
        values[1],
    )
    return True


def _flatten(node: yaml.MappingNode, prefix: str, path: Path) -> list[Entry]:
    entries: list[Entry] = []
    for key_node, value_node in node.value:
        key = f"{prefix}{key_node.value}"
        if isinstance(value_node, yaml.MappingNode):
            entries += _flatten(value_node, f"{key}.", path)
        else:
            line = key_node.start_mark.line + 1
            try:
                value = construct(value_node)
            except BadYaml as error:
                raise UserError(f"{path} is not valid YAML: {error}", key=key) from None
            entries.append(Entry(key, value, f"{path}:{line}", path))
    return entries
