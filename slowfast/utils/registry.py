"""Registry: a name gives an object; a wrong name gives the nearest ones."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Generic, TypeVar

from slowfast.utils.errors import Problem, UserError

T = TypeVar("T")
_LONGEST = 200  # characters of a name; comparing longer ones takes long and finds nothing


def near_names(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The ``count`` known names most like ``name``, compared without regard to case."""
    if len(name) > _LONGEST:
        return []
    by_lower: dict[str, str] = {}
    for candidate in known:
        by_lower.setdefault(candidate.lower(), candidate)
    near = difflib.get_close_matches(name.lower(), list(by_lower), n=count, cutoff=0.6)
    return [by_lower[lower] for lower in near]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remedy sentence for an unknown ``name``; empty when nothing is near."""
    near = near_names(name, known)
    return f"did you mean {' or '.join(near)}?" if near else ""


class Registry(Generic[T]):
    """Objects by name, filled by the decorator :meth:`register`.

    Args:
        kind: what is registered, for messages ("model").
        key: the configuration key whose value is looked up (several: ``"A.KEY / B.KEY"``); the
            registered names are its choices.
        ignore_case: "tsn" finds "TSN".
        check: called with (name, object) before an object is added; raises UserError for one
            that cannot work.
        resolve: gives the object of a name that is not registered, or None: names that another
            library knows (``timm/<name>``).
        near: further names that are like an unknown one, for messages.
    """

    # Configuration key -> the registry of its choices.
    by_key: ClassVar[dict[str, Registry]] = {}

    def __init__(
        self,
        kind: str,
        key: str = "",
        ignore_case: bool = False,
        *,
        check: Callable[[str, T], None] | None = None,
        resolve: Callable[[str], T | None] | None = None,
        near: Callable[[str], list[str]] | None = None,
    ):
        self.kind, self.key, self.ignore_case = kind, key, ignore_case
        self._check, self._resolve, self._near = check, resolve, near
        self._objects: dict[str, T] = {}
        for name in filter(None, key.split(" / ")):
            Registry.by_key[name] = self

    def register(self, name: str | None = None) -> Callable[[T], T]:
        """Decorator that adds an object under ``name`` (default: its ``__name__``).

        The same object of the same module registered again replaces the first, as when a cell of
        a notebook runs twice. UserError if another object has the name.
        """

        def add(obj: T) -> T:
            label = obj.__name__ if name is None else name  # type: ignore[attr-defined]
            if self._check is not None:
                self._check(label, obj)
            known = self._find(label)
            if known is not None:
                self._refuse_other(known, obj)
                label = known
            self._objects[label] = obj
            return obj

        return add

    def _refuse_other(self, name: str, obj: T) -> None:
        before, after = _address(self._objects[name]), _address(obj)
        if before != after:
            raise UserError(
                f"the {self.kind} {name!r} is {before} already; {after} cannot have the same name",
                "register it under another name",
                self.key,
            )

    def _find(self, name: str) -> str | None:
        if name in self._objects:
            return name
        if self.ignore_case:
            return next((n for n in self._objects if n.lower() == name.lower()), None)
        return None

    def _lookup(self, name: str) -> T | None:
        label = self._find(name)
        if label is not None:
            return self._objects[label]
        return self._resolve(name) if self._resolve is not None else None

    def get(self, name: str) -> T:
        """The object called ``name``; UserError with the nearest names otherwise."""
        obj = self._lookup(name)
        if obj is None:
            near = near_names(name, self) + (self._near(name) if self._near is not None else [])
            remedy = f"did you mean {' or '.join(dict.fromkeys(near))}?"
            if not near:
                remedy = f"known: {', '.join(sorted(self))}"
            raise UserError(f"no {self.kind} is called {name!r}", remedy, self.key)
        return obj

    def problems(self, name: str) -> list[Problem]:
        """What :meth:`get` would complain about, for rules over a configuration."""
        try:
            self.get(name)
        except UserError as error:
            return error.problems
        return []

    def names(self, pattern: str = "*") -> list[str]:
        """Sorted names of the registered objects that match a pattern with wildcards."""
        wanted = pattern.lower() if self.ignore_case else pattern
        return sorted(
            name
            for name in self._objects
            if fnmatch.fnmatchcase(name.lower() if self.ignore_case else name, wanted)
        )

    def __contains__(self, name: str) -> bool:
        return self._lookup(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)


def _address(obj: object) -> str:
    """``module.qualname`` of a class or function, with the line of a lambda; else its ``repr``."""
    if not hasattr(obj, "__qualname__"):
        return repr(obj)
    line = f" of line {obj.__code__.co_firstlineno}" if "<lambda>" in obj.__qualname__ else ""
    return f"{obj.__module__}.{obj.__qualname__}{line}"
