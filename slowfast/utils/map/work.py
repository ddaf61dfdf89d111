"""What is done with each of many items, wherever it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Result = dict[str, Any]
CRASHED: Result = {"crashed": True}  # the result of an item whose work killed its process


class Work:
    """Something that is done with items, each known by its ``key``.

    Every worker has a copy: it must be picklable, and small. What takes long to make, such as a
    network, is made by :meth:`prepare` and stays (``functools.cached_property``). Files are
    written atomically (:func:`slowfast.utils.files.write_atomic`): a worker may go at any time, and
    what it had in hand is done again by another one, here or on another machine.

    ``parcel``: items that a worker gets at a time, at most. ``has_network``: each worker takes a
    GPU of its own, where there are GPUs; on a machine with one GPU or none a single worker is
    enough, and is this process.
    """

    parcel = 1
    has_network = False

    def prepare(self) -> None:
        """Make what takes long, before the first item is given out: if that ends a worker, no item
        is to blame."""

    def results(self, keys: Sequence[str]) -> Iterator[Result]:
        """The result of each key, in their order: numbers and texts by name, for JSON. What is
        wrong with an item is a result (``cause``); an error ends everything."""
        raise NotImplementedError


class Each(Work):
    """A function of one key."""

    def __init__(self, function: Callable[[str], Result]):
        self.function = function

    def results(self, keys: Sequence[str]) -> Iterator[Result]:
        yield from map(self.function, keys)
