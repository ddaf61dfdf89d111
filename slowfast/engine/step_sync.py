"""What all processes agree on before a step, so that all of them do the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from slowfast.datasets.batch import BadItem, Batch
from slowfast.utils.distributed import gather_numbers, gather_objects

# Positions in a message; the sizes of the batches follow, then figures.
_SIGNAL, _SAVE, _BAD, _FIRST = range(4)


@dataclass(frozen=True)
class StepSync:
    """The same on every rank.

    ``sizes[rank][i]`` is the number of readable clips in batch ``i`` of a rank; batches that are
    empty on all ranks are left out. ``signal`` is the first rank's that got one, else 0; ``save``
    is true if a rank wants a checkpoint. ``figures[rank]`` are those that a rank has given.
    """

    sizes: list[list[int]]
    bad: list[BadItem]
    signal: int = 0
    save: bool = False
    figures: list[list[float]] = field(default_factory=list)


def sync_step(
    batches: Sequence[Batch], signal: int = 0, save: bool = False, figures: Sequence[float] = ()
) -> tuple[StepSync, list[Batch]]:
    """Exchange facts about ``batches``; a collective: all ranks call it with equally many.

    Gives what all ranks do, and the batches of this rank for it. Where a rank can read nothing of
    a batch that others can read, it is given a dummy batch of theirs, which counts nothing: every
    process runs the same forward and backward passes, as the communication inside the network
    requires. ``figures``, equally many on all ranks, travel with the message.
    """
    local_bad = [item for batch in batches for item in batch.bad]
    sizes = [batch.size for batch in batches]
    rows = gather_numbers([signal, save, len(local_bad), *sizes, *figures])
    bad = local_bad
    if len(rows) > 1 and any(row[_BAD] for row in rows):
        bad = [item for items in gather_objects(local_bad) for item in items]
    end = _FIRST + len(sizes)
    columns = [list(map(int, column)) for column in zip(*(row[_FIRST:end] for row in rows))]
    used = [number for number, column in enumerate(columns) if any(column)]
    sync = StepSync(
        [[columns[number][rank] for number in used] for rank in range(len(rows))],
        bad,
        next((int(row[_SIGNAL]) for row in rows if row[_SIGNAL]), 0),
        any(row[_SAVE] for row in rows),
        [row[end:] for row in rows],
    )
    local = [batches[number] for number in used]
    if any(0 in columns[number] for number in used):
        local = _with_dummy_batches(local)
    return sync, local


def _with_dummy_batches(batches: list[Batch]) -> list[Batch]:
    # Clips may be on the device of this rank already, which another rank does not have.
    ranks = gather_objects([batch.to("cpu") if batch.size else None for batch in batches])
    return [
        batch if batch.size else next(row[number] for row in ranks if row[number])
        for number, batch in enumerate(batches)
    ]
