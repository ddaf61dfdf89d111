"""What processes tell each other before a step, so that all of them do the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slowfast.datasets.base import BadItem
from slowfast.engine.tasks.base import Batch
from slowfast.utils.distributed import gather_numbers, gather_objects

_SIGNAL, _SAVE, _BAD = range(3)  # places of a message; the sizes of the batches follow


@dataclass(frozen=True)
class Agreement:
    """The same on every rank.

    ``sizes[rank][i]`` is the number of readable clips in batch ``i`` of a rank; batches that are
    empty everywhere are left out. ``signal`` is the first rank's that got one, else 0.
    """

    sizes: list[list[int]]
    bad: list[BadItem]
    signal: int = 0
    save: bool = False


def agree(
    batches: Sequence[Batch], signal: int = 0, save: bool = False
) -> tuple[Agreement, list[Batch]]:
    """(what all ranks have to do, this rank's batches for it).

    All ranks give equally many batches. Where one can read nothing while others can, it gets a
    stand-in of theirs, which counts nothing: every process runs the same forward and backward
    passes, as the communication inside the network requires.
    """
    own_bad = [item for batch in batches for item in batch["bad"]]
    own_sizes = [len(batch.get("label", ())) for batch in batches]
    rows = gather_numbers([signal, save, len(own_bad), *own_sizes])
    bad = own_bad
    if len(rows) > 1 and any(row[_BAD] for row in rows):
        bad = [item for items in gather_objects(own_bad) for item in items]
    columns = [list(map(int, column)) for column in list(zip(*rows))[_BAD + 1 :]]
    kept = [place for place, column in enumerate(columns) if any(column)]
    agreement = Agreement(
        [[columns[place][rank] for place in kept] for rank in range(len(rows))],
        bad,
        next((int(row[_SIGNAL]) for row in rows if row[_SIGNAL]), 0),
        any(row[_SAVE] for row in rows),
    )
    mine = [batches[place] for place in kept]
    if any(0 in (columns[place]) for place in kept):
        mine = _with_stand_ins(mine)
    return agreement, mine


def _with_stand_ins(batches: list[Batch]) -> list[Batch]:
    everywhere = gather_objects([batch if "video" in batch else None for batch in batches])
    return [
        batch if "video" in batch else next(row[place] for row in everywhere if row[place])
        for place, batch in enumerate(batches)
    ]
