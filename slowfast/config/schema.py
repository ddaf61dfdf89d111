"""What a configuration key may hold: its default, type, choices, range and meaning."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slowfast.utils.registry import Registry, did_you_mean

_TYPE_NAMES = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}


class WrongType(ValueError):
    """A value that cannot be read as the type of its key."""


@dataclass(frozen=True)
class Key:
    """One key: ``default``, ``help`` (shown by ``--explain``), limits.

    ``type`` is inferred from the default; lists name the type of their ``item``.
    ``optional`` allows None. ``affects_result`` is False where a stopped training may go on
    with another value and still end with the same weights.

    ``choices`` close the list of values; those of another type are well-typed, too. If a
    :class:`Registry` was created for the key, the registered names are choices as well.
    ``checked_by_rule``: such a value is judged by a rule
    (:func:`slowfast.config.validate.register_rule`), because other keys decide whether it is used.
    """

    default: Any
    help: str
    choices: tuple[Any, ...] = ()
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    type: type | None = None
    item: type | None = None
    optional: bool = False
    affects_result: bool = True
    checked_by_rule: bool = False

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
        if self.value_type is list:
            if isinstance(value, str):  # YAML reads "(3, 7, 7)" of old files as a text
                value = read_literal(value)
            if not isinstance(value, (list, tuple)):
                raise WrongType(f"must be {self.describe_type()}, is {value!r}")
            return [self._scalar(v, self.item) for v in value] if self.item else _as_lists(value)
        return self._scalar(value, self.value_type)

    def _scalar(self, value: Any, kind: type) -> Any:
        if kind is float and isinstance(value, str):
            try:  # YAML 1.1 reads 1e-6 as a text.
                return float(value)
            except ValueError:
                pass
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind is int and isinstance(value, float) and value.is_integer():
            return int(value)
        if kind is str and value is None:
            return ""
        if kind is str and isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if type(value) is not kind:
            words = _TYPE_NAMES[kind] if kind is not self.value_type else self.describe_type()
            raise WrongType(f"must be {words}, is {value!r}")
        return value

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
                return f"no {registry.kind} is called {value!r}"
            return f"{value!r} is not one of {', '.join(map(repr, self.choices))}"
        for words, bound, bad in (
            ("at least", self.ge, self.ge is not None and value < self.ge),
            ("more than", self.gt, self.gt is not None and value <= self.gt),
            ("at most", self.le, self.le is not None and value > self.le),
        ):
            if bad:
                return f"must be {words} {bound:g}, is {value!r}"
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
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _as_lists(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_as_lists(v) for v in value]
    return value


@dataclass(frozen=True)
class Section:
    """A named group of keys; ``name`` is empty for the keys at the top of the tree.

    ``affects_result`` False says of all keys what :class:`Key` says of one.
    """

    name: str
    help: str
    keys: dict[str, Key]
    affects_result: bool = True

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


def extend_section(name: str, keys: dict[str, Key]) -> None:
    """Add keys to a registered section, where the code that reads them stands."""
    known = SECTIONS[name].keys
    clashes = sorted(key for key in keys if known.get(key, keys[key]) != keys[key])
    assert not clashes, f"{name} has other keys called {', '.join(clashes)}"
    known.update(keys)
