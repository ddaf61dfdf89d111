"""What a configuration key may hold: its default, type, choices, range and meaning."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from slowfast.utils.registry import Registry, did_you_mean
from slowfast.utils.text import shown

_TYPE_NAMES = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}

_LITERAL_LENGTH = 10_000  # characters of a value that is written as a Python literal
_TEXT_LENGTH = 4096  # the longest path of most systems
_LIST_DEPTH = 4
_MAX_INT = 2**63  # whole numbers are stored in 64 bits
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")  # tabs may separate columns


class WrongType(ValueError):
    """A value that cannot be read as the type of its key."""


@dataclass(frozen=True)
class Other:
    """In ``only_if``: any value but these."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Key:
    """One key: ``default``, ``help`` (shown by ``--explain``), limits.

    ``type`` is inferred from the default; lists name the type of their ``item``.
    ``optional`` allows None. ``affects_result`` is False where a stopped training may go on
    with another value and still end with the same weights.

    ``choices`` close the list of values; those of another type are well-typed, too. If a
    :class:`Registry` was created for the key, the registered names are choices as well.
    Limits of a list are those of its entries, of which there
    are ``min_length`` at least. Numbers are finite unless ``finite`` is False, which allows inf;
    nan is no value. ``checked_by_rule``: such a value is judged by a rule
    (:func:`slowfast.config.validate.register_rule`), because other keys decide whether it is used.

    ``only_if`` says when the key has an effect: other keys and the value that each must have (a
    tuple: one of several; :class:`Other`: any but some; of a list: an entry). ``unused``: no value
    ever has an effect, the key is accepted for old files. A run warns of keys that somebody set
    without effect (:mod:`slowfast.config.effect`).
    """

    default: Any
    help: str
    choices: tuple[Any, ...] = ()
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    min_length: int = 0
    finite: bool = True
    type: type | None = None
    item: type | None = None
    optional: bool = False
    affects_result: bool = True
    checked_by_rule: bool = False
    only_if: Mapping[str, Any] = field(default_factory=dict)
    unused: bool = False

    @property
    def value_type(self) -> type:
        return self.type or type(self.default)

    def describe_type(self) -> str:
        """The type in words."""
        if self.value_type is list:
            return "a list" + (f" of {self.item.__name__}" if self.item else "")
        further = [repr(choice) for choice in self.choices if self._is_of_another_type(choice)]
        words = [_TYPE_NAMES[self.value_type], *further, *(["None"] if self.optional else [])]
        return " or ".join(words)

    def _is_of_another_type(self, choice: Any) -> bool:
        return type(choice) is not (self.item or self.value_type)

    def coerce(self, value: Any) -> Any:
        """``value`` as the key's type: 1 -> 1.0, "1e-6" -> 1e-06, tuple -> list; WrongType."""
        if value is None and self.optional:
            return None
        if any(value == choice for choice in filter(self._is_of_another_type, self.choices)):
            return value
        if self.value_type is not list:
            return self._scalar(value, self.value_type)
        if isinstance(value, str):  # YAML reads "(3, 7, 7)" of old files as a text
            value = read_literal(value)
        if not isinstance(value, (list, tuple)):
            raise WrongType(f"must be {self.describe_type()}, is {shown(value)}")
        if len(value) < self.min_length:
            entries = "entry" if self.min_length == 1 else "entries"
            raise WrongType(f"must have at least {self.min_length} {entries}, is {shown(value)}")
        return [self._scalar(v, self.item) for v in value] if self.item else self._nested(value)

    def _scalar(self, value: Any, kind: type) -> Any:
        given = value
        if kind is float and isinstance(value, str):
            value = _float(value)  # YAML 1.1 reads 1e-6 as a text.
        elif kind is float and type(value) is int:
            value = _float(value)
        elif kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        elif kind is str and value is None:
            value = ""
        elif kind is str and type(value) is int and abs(value) < 10**100:
            value = str(value)
        if type(value) is not kind:
            words = _TYPE_NAMES[kind] if kind is not self.value_type else self.describe_type()
            raise WrongType(f"must be {words}, is {shown(given)}")
        problem = self._unfit(value)
        if problem:
            raise WrongType(f"{problem}, is {shown(given)}")
        return value

    def _unfit(self, value: Any) -> str:
        """Why no key can hold a scalar of the right type; empty if it can."""
        if type(value) is int and not -_MAX_INT <= value < _MAX_INT:
            return "must be a whole number of at most 64 bits"
        if type(value) is float and (math.isnan(value) or (self.finite and math.isinf(value))):
            return "must be a finite number" if self.finite else "must be a number"
        if type(value) is str and _CONTROL.search(value):
            return "must be a text without control characters, and without bytes that are not UTF-8"
        if type(value) is str and len(value) > _TEXT_LENGTH:
            return f"must be a text of at most {_TEXT_LENGTH} characters"
        return ""

    def _nested(self, value: Any, depth: int = 1) -> Any:
        """Lists in lists, of numbers and texts."""
        if not isinstance(value, (list, tuple)):
            if value is not None and type(value) not in _TYPE_NAMES:
                raise WrongType(f"must be a list of numbers or texts, holds {shown(value)}")
            problem = self._unfit(value)
            if problem:
                raise WrongType(f"{problem}, holds {shown(value)}")
            return value
        if depth > _LIST_DEPTH:
            raise WrongType(f"must be a list, at most {_LIST_DEPTH} in one another")
        return [self._nested(v, depth + 1) for v in value]

    def choices_of(self, name: str) -> tuple[Any, ...]:
        """What the key called ``name`` may hold: ``choices`` and the names of its registry."""
        registered = sorted(Registry.by_key.get(name, ()))
        return self.choices + tuple(n for n in registered if n not in self.choices)

    def is_choice(self, name: str, value: Any) -> bool:
        """Whether the key called ``name`` may hold ``value``, as far as choices say."""
        registry = Registry.by_key.get(name)
        is_open = self.checked_by_rule or not (self.choices or registry)
        return is_open or value in self.choices or (registry is not None and value in registry)

    def limits(self, name: str, value: Any) -> str:
        """What is wrong with a well-typed ``value`` of the key ``name``; empty if nothing is."""
        if value is None:
            return ""
        if not self.is_choice(name, value):
            registry = Registry.by_key.get(name)
            if registry is not None:
                return f"no {registry.kind} is called {shown(value)}"
            return f"{shown(value)} is not one of {', '.join(map(repr, self.choices))}"
        for entry in value if isinstance(value, list) else [value]:
            for words, bound, bad in (
                ("at least", self.ge, self.ge is not None and entry < self.ge),
                ("more than", self.gt, self.gt is not None and entry <= self.gt),
                ("at most", self.le, self.le is not None and entry > self.le),
            ):
                if bad:
                    return f"must be {words} {bound:g}, is {shown(value)}"
        return ""

    def remedy(self, name: str, value: Any) -> str:
        """What to do about a ``value`` beyond the limits: the nearest choice, or the help text."""
        if self.is_choice(name, value):
            return self.help
        choices = [str(choice) for choice in self.choices_of(name)]
        near = did_you_mean(str(value), choices)
        registry = Registry.by_key.get(name)
        if registry is not None:
            suggestion = registry.problems(str(value))[0].remedy
            if suggestion.startswith("did you mean"):
                near = suggestion
        return near or f"known: {', '.join(filter(None, choices))}"


def read_literal(text: str) -> Any:
    """A Python literal as its value; anything else stays a text."""
    if len(text) > _LITERAL_LENGTH:
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _float(value: str | int) -> Any:
    """``value`` as a float if it is one, else as it is."""
    try:
        return float(value)
    except (ValueError, OverflowError):
        return value


@dataclass(frozen=True)
class Section:
    """A named group of keys; ``name`` is empty for the keys at the top of the tree.

    ``affects_result`` False and ``only_if`` say of all keys what :class:`Key` says of one.
    """

    name: str
    help: str
    keys: dict[str, Key]
    affects_result: bool = True
    only_if: Mapping[str, Any] = field(default_factory=dict)

    def dotted(self) -> dict[str, Key]:
        """``{"SECTION.KEY": Key}``."""
        prefix = f"{self.name}." if self.name else ""
        return {prefix + name: key for name, key in self.keys.items()}


SECTIONS: dict[str, Section] = {}
_loaders: list[Callable[[], None]] = []


def set_loader(loader: Callable[[], None]) -> None:
    """Name the function that imports everything that registers sections, keys and choices.

    This room knows none of the rooms above it; ``slowfast/__init__.py`` passes the function that
    does (``slowfast.registered.load``). It runs when the first configuration is made.
    """
    _loaders[:] = [loader]


def load_registered() -> None:
    """Import everything that registers sections, keys and choices (once)."""
    for loader in _loaders:
        loader()


def register_section(section: Section) -> Section:
    """Add a section to the tree; called where the section is defined."""
    assert SECTIONS.get(section.name, section).help == section.help, f"two {section.name}"
    SECTIONS[section.name] = section
    return section


def keys_without_effect() -> set[str]:
    """Dotted names of the keys that may change between the parts of one training."""
    return {
        name
        for section in SECTIONS.values()
        for name, key in section.dotted().items()
        if not (section.affects_result and key.affects_result)
    }


def all_keys() -> dict[str, Key]:
    """Every key of the registered sections by dotted name."""
    return {name: key for section in SECTIONS.values() for name, key in section.dotted().items()}


def extend_section(
    name: str, keys: dict[str, Key], only_if: Mapping[str, Any] | None = None
) -> None:
    """Add keys to a registered section, where the code that reads them stands.

    ``only_if`` holds for all of them, besides their own (see :class:`Key`).
    """
    known = SECTIONS[name].keys
    if only_if:
        keys = {key: replace(k, only_if={**only_if, **k.only_if}) for key, k in keys.items()}
    clashes = sorted(key for key in keys if known.get(key, keys[key]) != keys[key])
    assert not clashes, f"{name} has other keys called {', '.join(clashes)}"
    known.update(keys)
