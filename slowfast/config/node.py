"""CfgNode: a yacs tree that knows where each value came from and helps with wrong names."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode as YacsNode

from slowfast.config import compat, plugins
from slowfast.config.schema import SECTIONS, Key, WrongType, all_keys, read_literal
from slowfast.config.yaml_file import Entry, read_yaml
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.registry import did_you_mean
from slowfast.utils.text import shorten

DEFAULT_ORIGIN = "default"
COMMAND_LINE = "command line"
ARGUMENT = "overrides"  # a mapping that Python code passed
_DEPTH = 8  # of sections in such a mapping
_MAX_SUGGESTED = 20  # unknown keys for which near ones are looked for; each takes milliseconds


class CfgNode(YacsNode):
    """A node of the configuration; the root also keeps ``origins`` of its values."""

    @property
    def origins(self) -> dict[str, str]:
        """Dotted key -> ``default``, ``file:line`` or ``command line`` (root only)."""
        return self.__dict__.setdefault("__origins__", {})

    @property
    def set_by_hand(self) -> set[str]:
        """Dotted keys that the command line, Python code or a file that it names has set, and not
        a file that stands behind ``_BASE_`` (root only)."""
        return self.__dict__.setdefault("__set_by_hand__", set())

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

    def with_value(self, dotted: str, value: Any, origin: str) -> CfgNode:
        """A frozen copy in which a key has another value, which is not checked."""
        return self.with_values({dotted: value}, origin)

    def with_values(self, values: Mapping[str, Any], origin: str) -> CfgNode:
        """:meth:`with_value` for several keys."""
        copied = self.clone()
        copied.defrost()
        for dotted, value in values.items():
            copied.assign(dotted, value, origin)
        copied.freeze()
        return copied

    def flat(self) -> dict[str, Any]:
        """All values by dotted key, sorted."""

        def walk(node: YacsNode, prefix: str) -> Iterable[tuple[str, Any]]:
            for name in sorted(node):
                if isinstance(node[name], YacsNode):
                    yield from walk(node[name], f"{prefix}{name}.")
                else:
                    yield prefix + name, node[name]

        return dict(walk(self, ""))

    def __setattr__(self, name: str, value: Any) -> None:
        if self.is_frozen():
            raise AttributeError(
                f"{name} cannot be set to {value!r}: a loaded configuration is frozen; pass the "
                f"value to load_config(files, {{key: value}}), which checks it, or change a copy: "
                "copy = cfg.clone(); copy.defrost()"
            )
        super().__setattr__(name, value)

    def add_sections(self) -> None:
        """Add the registered keys that the tree does not have yet, at their defaults."""
        for section in SECTIONS.values():
            node = self
            for part in filter(None, section.name.split(".")):
                node = node.setdefault(part, CfgNode())
            for name, (dotted, key) in zip(section.keys, section.dotted().items()):
                if name not in node:
                    node[name] = copy.deepcopy(key.default)
                    self.origins[dotted] = DEFAULT_ORIGIN

    def merge_from_file(self, cfg_filename: str | Path) -> None:
        """Merge a YAML file; UserError with all its problems."""
        raise_if_any(self.merge(read_yaml(cfg_filename)))

    def merge_from_list(self, cfg_list: list[str]) -> None:
        """Merge ``[KEY, VALUE, KEY, VALUE, …]``; UserError with all its problems."""
        raise_if_any(self.merge(parse_overrides(cfg_list)))

    def merge(self, entries: Iterable[Entry]) -> list[Problem]:
        """Import what IMPORTS names, then put the entries into the tree; gives the problems."""
        names, entries = plugins.take_imports(entries)
        if names:
            self.add_sections()
            known = [name for name in self.IMPORTS if name not in names]
            self.assign(plugins.IMPORTS, [*known, *names], "files and command line")
        return merge_entries(self, entries)


def raise_if_any(problems: list[Problem]) -> None:
    """UserError if there are problems."""
    if problems:
        raise UserError(problems)


def parse_overrides(words: Sequence[str] | Mapping[str, Any]) -> list[Entry]:
    """``KEY VALUE …`` words as entries; values are Python literals, else texts.

    A mapping ``{"KEY": value}`` or ``{"SECTION": {"KEY": value}}`` holds the values themselves.
    """
    if isinstance(words, Mapping):
        return list(_flatten(words, ""))
    if len(words) % 2:
        raise UserError(
            f"KEY VALUE words must come in pairs; {words[-1]!r} is left over",
            'quote values that hold spaces, e.g. "[256, 320]"',
        )
    entries = []
    for key, text in zip(words[::2], words[1::2]):
        value: Any = text
        if isinstance(text, str):
            value = read_literal(text)
            if value is text:
                value = {"true": True, "false": False}.get(text.lower(), text)
        entries.append(Entry(key, value, COMMAND_LINE))
    return entries


def _flatten(tree: Mapping[str, Any], prefix: str) -> Iterable[Entry]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            if prefix.count(".") >= _DEPTH:
                raise UserError(f"sections are nested more than {_DEPTH} deep", "", ARGUMENT)
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield Entry(f"{prefix}{name}", value, ARGUMENT)


def merge_entries(cfg: CfgNode, entries: Iterable[Entry]) -> list[Problem]:
    """Put entries into the tree, in order; what could not be merged is returned.

    The last value of a key counts: a later entry also removes the problem of an earlier one.
    """
    keys = all_keys()
    problems: dict[str, Problem] = {}
    unread: dict[str, Entry] = {}
    for entry in compat.translate(entries):
        if isinstance(entry, Problem):
            problems[entry.key] = entry
            continue
        problems.pop(entry.key, None)
        if entry.key not in keys and compat.is_foreign(entry):
            unread[entry.key] = entry
            continue
        problem = _merge_entry(cfg, entry, keys, len(problems) < _MAX_SUGGESTED)
        if problem:
            problems[entry.key] = problem
    if "MODEL.MODEL_NAME" not in problems:
        compat.warn_unread(unread.values(), cfg.MODEL.MODEL_NAME)
    return list(problems.values())


def _merge_entry(
    cfg: CfgNode, entry: Entry, keys: Mapping[str, Key], suggest: bool
) -> Problem | None:
    key = keys.get(entry.key)
    if key is None:
        return _unknown(entry, keys, suggest)
    try:
        value = _read_value(key, entry.value)
    except WrongType as error:
        return Problem(str(error), key.help, entry.key, entry.origin)
    cfg.assign(entry.key, value, entry.origin)
    return None


def _read_value(key: Key, value: Any) -> Any:
    """The coerced value; a text that looks like a literal may have stood for a list."""
    try:
        return key.coerce(value)
    except WrongType:
        if isinstance(value, str):
            literal = read_literal(value)
            if literal is not value:
                return key.coerce(literal)
        raise


def _unknown(entry: Entry, keys: Mapping[str, Key], suggest: bool) -> Problem | None:
    """A problem for a key that is not ours, or None where upstream files may hold it."""
    verdict = compat.judge_upstream(entry)
    if verdict is compat.ACCEPTED:
        return None
    if verdict is not None:
        return verdict
    sections = {k.split(".")[0] for k in keys}
    near = suggest and did_you_mean(entry.key, {**keys, **compat.foreign_keys()})
    if not near and "." not in entry.key and entry.key not in sections:
        leaves = {k.split(".")[-1]: k for k in keys}
        near = f"did you mean {leaves[entry.key]}?" if entry.key in leaves else ""
    remedy = near or "list all keys with --print-config"
    return Problem("there is no such key", remedy, shorten(entry.key), entry.origin)
