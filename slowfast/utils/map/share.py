"""Parts of a list for the jobs of a scheduler: ``--shard 2/8`` is the second of eight."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from slowfast.utils.errors import UserError

T = TypeVar("T")

_FOLDER = "shares"


class Share(NamedTuple):
    """Part ``number`` of ``count``, counted from 1, as the numbers of a job array are."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """``2/8``; UserError if it is no such text."""
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            remedy = "write --shard 2/8 for the second of eight jobs, 1/8 for the first"
            raise UserError(f"{text!r} is no share of a list", remedy, "--shard")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, items: Sequence[T]) -> list[T]:
        """Every ``count``-th item: neighbours, which resemble each other, go to different jobs."""
        return list(items[self.number - 1 :: self.count])

    def folder(self, root: str | Path) -> Path:
        """Where a share keeps what is its own, below the folder ``root`` of the whole."""
        return Path(root, _FOLDER, f"{self.number}-of-{self.count}")


def shares_below(root: str | Path) -> dict[Share, Path]:
    """The shares that have begun below ``root``, with their folders, in order."""
    found = {}
    for path in Path(root, _FOLDER).glob("*-of-*"):
        number, _, count = path.name.partition("-of-")
        if number.isdecimal() and count.isdecimal():
            found[Share(int(number), int(count))] = path
    return dict(sorted(found.items()))


def check_complete(missing: Iterable[str], keys: Sequence[str], root: str | Path) -> None:
    """UserError if items are ``missing`` of all ``keys`` when shares are joined: it says what is to
    be run again."""
    missing = set(missing)
    if not missing:
        return
    begun = shares_below(root)
    counts = {share.count for share in begun}
    remedy = "run every share first: --shard 1/n to n/n"
    if len(counts) == 1:
        (count,) = counts
        every = (Share(number, count) for number in range(1, count + 1))
        left = [str(share) for share in every if not missing.isdisjoint(share.of(keys))]
        more = f" and {len(left) - 10} more" if len(left) > 10 else ""
        remedy = f"run --shard {', '.join(left[:10])}{more} again, or leave out --merge"
    what = f"{len(missing)} of {len(keys)} are not done, e.g. {min(missing)}"
    raise UserError(what, remedy, "--merge")
