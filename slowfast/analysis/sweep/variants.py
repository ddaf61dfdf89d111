"""The rows of a sweep: configuration files, values of a key, or what a file of rows says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowfast.config.yaml_file import find_config
from slowfast.utils.errors import UserError
from slowfast.utils.registry import did_you_mean
from slowfast.utils.text import read_text
from slowfast.utils.yaml_text import load_yaml

_FIELDS = ("name", "cfg", "words", "group")


@dataclass(frozen=True)
class SweepVariant:
    """One row of the table: a configuration file and KEY VALUE words; rows of a ``group`` share a
    colour.

    ``{seed}`` in a word is replaced by the seed of a run, ``{out}`` by the folder of the sweep: a
    run may start from the weights of an earlier row.
    """

    name: str
    config: Path
    words: tuple[str, ...] = ()
    group: str = ""

    @property
    def folder(self) -> str:
        """Name of the folder that holds the runs of all seeds."""
        return re.sub(r"[^\w.+-]+", "_", self.name)


def make_variants(
    configs: Iterable[str | Path], key: str = "", values: Sequence[str] = ()
) -> list[SweepVariant]:
    """Every combination of a configuration and a value of ``key`` (if given), with distinct
    names."""
    files = [Path(config) for config in configs]
    pairs = [(file, value) for file in files for value in (values if key else [""])]
    return _distinct(
        [
            SweepVariant(
                " ".join(filter(None, (file.stem if len(files) > 1 or not key else "", value))),
                file,
                (key, value) if key else (),
            )
            for file, value in pairs
        ],
        "--cfg",
    )


def read_variants(path: str | Path) -> list[SweepVariant]:
    """The rows of a YAML file, a list of mappings with these keys; UserError names what is wrong.

    ``name``; ``cfg``, a configuration file, as ``--cfg`` finds it or relative to this file;
    ``words``, a text of KEY VALUE words as on a command line (optional); ``group`` (optional).
    """
    file = Path(path)
    try:
        rows = load_yaml(read_text(file))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read: {error}", "name a YAML file", "--variants"
        ) from None
    if not isinstance(rows, list) or not rows:
        remedy = "write a list of rows: - {name: …, cfg: …, words: KEY VALUE …}"
        raise UserError(f"{file} is not a list of rows", remedy, "--variants")
    return _distinct([_variant(file, number, row) for number, row in enumerate(rows, 1)], str(file))


def select_variants(variants: Sequence[SweepVariant], names: Sequence[str]) -> list[SweepVariant]:
    """The variants of these names, in the order of ``variants``; UserError for an unknown name."""
    known = [variant.name for variant in variants]
    for name in names:
        if name not in known:
            remedy = did_you_mean(name, known) or f"rows are: {', '.join(known)}"
            raise UserError(f"there is no row {name!r}", remedy, "--rows")
    return [variant for variant in variants if variant.name in names]


def _variant(file: Path, number: int, row: Any) -> SweepVariant:
    place = f"{file}, row {number}"
    if not isinstance(row, dict):
        raise UserError(f"{place} is no mapping", "write name: … and cfg: …", "--variants")
    unknown = [key for key in row if key not in _FIELDS]
    missing = [key for key in ("name", "cfg") if not row.get(key)]
    wrong = [key for key, value in row.items() if not isinstance(value, (str, int, float))]
    for keys, what in ((unknown, "knows no"), (missing, "lacks"), (wrong, "wants a text as")):
        if keys:
            remedy = f"a row has the keys {', '.join(_FIELDS)}"
            raise UserError(f"{place} {what} {', '.join(map(str, keys))}", remedy, "--variants")
    beside = file.parent / str(row["cfg"])
    config = beside if beside.is_file() else find_config(str(row["cfg"]))
    try:
        words = shlex.split(str(row.get("words", "")))
    except ValueError as error:
        raise UserError(f"{place}: words: {error}", "close the quotation marks") from None
    return SweepVariant(str(row["name"]), config, tuple(words), str(row.get("group", "")))


def _distinct(variants: list[SweepVariant], key: str) -> list[SweepVariant]:
    folders = [variant.folder for variant in variants]
    if len(set(folders)) < len(folders):
        names = ", ".join(variant.name for variant in variants)
        raise UserError(f"rows would have equal names: {names}", "", key)
    return variants
