"""CfgNode: a yacs tree that knows where each value came from and helps with wrong names."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from yacs.config import CfgNode as YacsNode

from slowfast.config import compat
from slowfast.config.schema import Key, WrongType, all_keys
from slowfast.config.yaml_file import Entry, read_yaml
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.registry import did_you_mean

DEFAULT_ORIGIN = "default"
COMMAND_LINE = "command line"


class CfgNode(YacsNode):
    """A node of the configuration; the root also keeps ``origins`` of its values."""

    @property
    def origins(self) -> dict[str, str]:
        """Dotted key -> ``default``, ``file:line`` or ``command line`` (root only)."""
        return self.__dict__.setdefault("__origins__", {})

    def lookup(self, dotted: str) -> Any:
        """The value of a dotted key."""
        node: Any = self
        for part in dotted.split("."):
            node = node[part]
        return node

    def assign(self, dotted: str, value: Any, origin: str) -> None:
        """Set a dotted key and note where the value came from."""
        *path, leaf = dotted.split(".")
        node: Any = self
        for part in path:
            node = node[part]
        node[leaf] = value
        self.origins[dotted] = origin

    def flat(self) -> dict[str, Any]:
        """All values by dotted key, sorted."""

        def walk(node: YacsNode, prefix: str) -> Iterable[tuple[str, Any]]:
            for name in sorted(node):
                if isinstance(node[name], YacsNode):
                    yield from walk(node[name], f"{prefix}{name}.")
                else:
                    yield prefix + name, node[name]

        return dict(walk(self, ""))

    def merge_from_file(self, cfg_filename: str | Path) -> None:
        """Merge a YAML file; UserError with all its problems."""
        raise_if_any(merge_entries(self, read_yaml(cfg_filename)))

    def merge_from_list(self, cfg_list: list[str]) -> None:
        """Merge ``[KEY, VALUE, KEY, VALUE, …]``; UserError with all its problems."""
        raise_if_any(merge_entries(self, parse_overrides(cfg_list)))


def raise_if_any(problems: list[Problem]) -> None:
    """UserError if there are problems."""
    if problems:
        raise UserError(problems)


def parse_overrides(words: list[str]) -> list[Entry]:
    """``KEY VALUE …`` words as entries; values are Python literals, else texts."""
    if len(words) % 2:
        raise UserError(
            f"KEY VALUE words must come in pairs; {words[-1]!r} is left over",
            'quote values that hold spaces, e.g. "[256, 320]"',
        )
    entries = []
    for key, text in zip(words[::2], words[1::2]):
        value: Any = text
        if isinstance(text, str):
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                value = {"true": True, "false": False}.get(text.lower(), text)
        entries.append(Entry(key, value, COMMAND_LINE))
    return entries


def merge_entries(cfg: CfgNode, entries: Iterable[Entry]) -> list[Problem]:
    """Put entries into the tree, in order; what could not be merged is returned."""
    keys = all_keys()
    problems: list[Problem] = []
    for entry in compat.translate(entries, problems):
        key = keys.get(entry.key)
        if key is None:
            problem = _unknown(entry, keys)
            problems.extend([problem] if problem else [])
            continue
        try:
            value = _read_value(key, entry.value)
        except WrongType as error:
            problems.append(Problem(str(error), key.help, entry.key, entry.origin))
            continue
        cfg.assign(entry.key, value, entry.origin)
    return problems


def _read_value(key: Key, value: Any) -> Any:
    """The coerced value; a text that looks like a literal may have stood for a list."""
    try:
        return key.coerce(value)
    except WrongType:
        if isinstance(value, str):
            try:
                return key.coerce(ast.literal_eval(value))
            except (ValueError, SyntaxError):
                pass
        raise


def _unknown(entry: Entry, keys: dict[str, Key]) -> Problem | None:
    """A problem for a key that is not ours, or None where upstream files may hold it."""
    verdict = compat.judge_upstream(entry)
    if verdict is compat.ACCEPTED:
        return None
    if verdict is not None:
        return verdict
    sections = {k.split(".")[0] for k in keys}
    near = did_you_mean(entry.key, keys)
    if not near and "." not in entry.key and entry.key not in sections:
        leaves = {k.split(".")[-1]: k for k in keys}
        near = f"did you mean {leaves[entry.key]}?" if entry.key in leaves else ""
    remedy = near or "list all keys with --print-config"
    return Problem("there is no such key", remedy, entry.key, entry.origin)
