"""The configuration of a run for the page: every key, and where its value came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from slowfast.analysis.report.runs import RunRecord
from slowfast.analysis.results import read_config
from slowfast.config.node import ARGUMENT, COMMAND_LINE
from slowfast.config.schema import all_keys
from slowfast.engine.results import CONFIG

_ABSENT = object()


@dataclass(frozen=True)
class Setting:
    """A key. ``source``: ``command line``, ``recipe`` (the file that was named), ``base`` (a file
    that it includes), ``changed`` (not the default, origin unknown) or ``default``."""

    key: str
    value: str
    default: str
    source: str
    origin: str

    @property
    def is_own(self) -> bool:
        """Whether this run says so itself, rather than a base file or a default."""
        return self.source in ("command line", "recipe", "changed")


def run_settings(run: RunRecord) -> list[Setting]:
    """All keys of a run, its own ones first, then those of base files."""
    launch = next((x for x in reversed(run.launches) if x.get("train")), None)
    launch = launch or (run.launches[-1] if run.launches else {})
    origins: dict[str, str] = launch.get("origins") or {}
    keys = all_keys()
    settings = []
    for key, value in run.values.items():
        default = keys[key].default if key in keys else _ABSENT
        source = "default" if value == default else "changed"
        if origins:
            source = _source(origins.get(key, ""), launch.get("command") or [], source)
        shown = "" if default is _ABSENT else repr(default)
        settings.append(Setting(key, repr(value), shown, source, origins.get(key, "")))
    ranks = {"command line": 0, "recipe": 1, "changed": 2, "base": 3, "default": 4}
    return sorted(settings, key=lambda setting: (ranks[setting.source], setting.key))


def _source(origin: str, command: Sequence[str], otherwise: str) -> str:
    if origin.startswith((COMMAND_LINE, ARGUMENT)):
        return "command line"
    file, colon, _ = origin.rpartition(":")
    if not colon:
        return otherwise
    stem = str(PurePath(file).with_suffix(""))
    named = [str(PurePath(word).with_suffix("")) for word in command if word and word[0] != "-"]
    is_named = any(stem == name or stem.endswith((f"/{name}", f"/{name}/config")) for name in named)
    return "recipe" if is_named else "base"


def different_values(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Keys whose values differ, with both; an absent one is empty."""
    rows = []
    for key in sorted({*a, *b}):
        one, other = a.get(key, _ABSENT), b.get(key, _ABSENT)
        if one != other:
            rows.append((key, *("" if x is _ABSENT else repr(x) for x in (one, other))))
    return rows


def test_differences(run: RunRecord, folder: Any) -> list[tuple[str, str, str]]:
    """Keys in which a test differs from config.yaml of its run: key, run's value, test's value."""
    there = (folder / CONFIG).is_file()
    return different_values(run.values, read_config(folder)) if there else []


test_differences.__test__ = False  # pytest must not collect it
