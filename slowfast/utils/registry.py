"""Registry: a name gives an object; a wrong name gives the nearest ones."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Generic, TypeVar

from slowfast.utils.errors import UserError

T = TypeVar("T")


def near_names(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The ``count`` known names most like ``name``, compared without regard to case."""
    by_lower: dict[str, str] = {}
    for candidate in known:
        by_lower.setdefault(candidate.lower(), candidate)
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=count, cutoff=0.6)
    return [by_lower[f] for f in found]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remedy sentence for an unknown ``name``; empty when nothing is near."""
    near = near_names(name, known)
    return f"did you mean {' or '.join(near)}?" if near else ""


class Registry(Generic[T]):
    """Objects by name, filled by the decorator :meth:`register`.

    ``key`` is the configuration key whose value is looked up (several: ``"A.KEY / B.KEY"``); the
    registered names are that key's choices.
    """

    # Configuration key -> the registry of its choices.
    by_key: ClassVar[dict[str, Registry]] = {}

    def __init__(self, kind: str, key: str = "", ignore_case: bool = False):
        self.kind, self.key, self.ignore_case = kind, key, ignore_case
        self._objects: dict[str, T] = {}
        for name in filter(None, key.split(" / ")):
            Registry.by_key[name] = self

    def register(self, name: str | None = None) -> Callable[[T], T]:
        """Decorator that adds an object under ``name`` (default: its ``__name__``)."""

        def add(obj: T) -> T:
            label = name or obj.__name__  # type: ignore[attr-defined]
            assert self._find(label) is None, f"{self.kind} {label} is registered twice"
            self._objects[label] = obj
            return obj

        return add

    def _find(self, name: str) -> str | None:
        if name in self._objects:
            return name
        if self.ignore_case:
            return next((n for n in self._objects if n.lower() == name.lower()), None)
        return None

    def get(self, name: str) -> T:
        """The object called ``name``; UserError with the nearest names otherwise."""
        found = self._find(name)
        if found is None:
            remedy = did_you_mean(name, self) or f"known: {', '.join(sorted(self))}"
            raise UserError(f"no {self.kind} is called {name!r}", remedy, self.key)
        return self._objects[found]

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)
