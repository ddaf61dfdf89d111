"""Every item once: :func:`map_items`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from slowfast.utils.files import write_text_atomic
from slowfast.utils.map.crew import Crew, work_off
from slowfast.utils.map.journal import Journal, Row, opened
from slowfast.utils.map.local import Processes
from slowfast.utils.map.share import Share, check_complete, shares_below
from slowfast.utils.map.work import Each, Result, Work
from slowfast.utils.runtime import gpu_count


@dataclass(frozen=True)
class Where:
    """Where work is done, and which part of it.

    ``workers``: how many, None: as many as there are cores (or GPUs); ``ray``: the address of a Ray
    cluster or ``auto``, empty: processes of this machine; ``share``: the part of the items that
    this call works, None: all; ``merge``: join the journals of all shares and work nothing;
    ``anew``: forget what has been done.
    """

    workers: int | None = None
    ray: str = ""
    share: Share | None = None
    merge: bool = False
    anew: bool = False

    def folder(self, root: str | Path) -> Path:
        """Where this call keeps its journal and what it says of its items: ``root``, the folder of
        the whole, or a folder of the share below it."""
        return self.share.folder(root) if self.share else Path(root)

    def part(self, keys: Sequence[str]) -> list[str]:
        """The items of this call, each once."""
        keys = list(dict.fromkeys(keys))
        return self.share.of(keys) if self.share else keys


HERE = Where()


def map_items(
    work: Work | Callable[[str], Result],
    keys: Sequence[str],
    journal: str | Path | None = None,
    *,
    where: Where = HERE,
    options: Mapping[str, Any] | None = None,
    title: str = "",
    stamp: Callable[[str], str] = lambda key: "",
    is_valid: Callable[[str, Result], bool] = lambda key, result: True,
    begin: Callable[[list[str]], None] = lambda missing: None,
) -> dict[str, Result]:
    """The result of ``work`` for every key (of the share in ``where``), in their order.

    Results are appended to the file ``journal`` as they come, and read from it the next time,
    unless ``stamp(key)`` (for example size and time of a file) has changed or ``is_valid(key,
    result)`` is False (for example, an output file has been deleted). A journal of other
    ``options`` is refused. In the end it holds one line for each key; those of ``keys`` come last,
    in their order. A share keeps its journal in ``where.folder``. ``begin`` is called with the keys
    that are to be worked, before the first of them.

    An item whose work kills its process (a decoder that crashes) gives :data:`CRASHED`. An item of
    a machine that goes is worked again elsewhere. UserError if another process works with the same
    journal, or if items are missing when shares are merged.
    """
    work = work if isinstance(work, Work) else Each(work)
    keys = where.part(keys)
    stamps = {key: stamp(key) for key in keys}
    with _journal(journal, where, options or {}) as (book, found):
        done: dict[str, Row] = {}
        for key, stamp_then, result in found:
            if key not in done and stamps.get(key) == stamp_then and is_valid(key, result):
                done[key] = Row(key, stamp_then, result)
        missing = [key for key in keys if key not in done]
        if where.merge and journal:
            check_complete(missing, keys, Path(journal).parent)
        begin(missing)
        for key, result in _shown(_results(work, missing, where), len(done), len(keys), title):
            done[key] = Row(key, stamps[key], result)
            if book:
                book.add(done[key])
        if book:
            book.finish({key: done[key] for key in keys})
    return {key: done[key].result for key in keys}


@contextlib.contextmanager
def _journal(
    path: str | Path | None, where: Where, options: Mapping[str, Any]
) -> Iterator[tuple[Journal | None, list[Row]]]:
    """The journal of this call and its rows; also those of all shares if they are to be joined."""
    if path is None:
        yield None, []
        return
    root, name = Path(path).parent, Path(path).name
    with opened(where.folder(root) / name, options) as book:
        rows = book.begin(where.anew)
        for folder in shares_below(root).values() if where.merge else ():
            rows += book.rows_of_part(folder / name)
        yield book, rows


def _results(work: Work, keys: Sequence[str], where: Where) -> Iterator[tuple[str, Result]]:
    if not keys:
        return
    if work.has_network and not where.ray and where.workers is None and gpu_count() < 2:
        yield from zip(keys, work.results(keys), strict=True)  # in this process
        return
    with contextlib.closing(_crew(work, where)) as crew:
        yield from work_off(crew, keys, work.parcel)


def _crew(work: Work, where: Where) -> Crew:
    if where.ray:
        from slowfast.utils.map.cluster import RayCrew

        return RayCrew(work, where.ray, where.workers)
    return Processes(work, where.workers)


def _shown(
    results: Iterator[tuple[str, Result]], done: int, total: int, title: str
) -> Iterator[tuple[str, Result]]:
    """The same, with a bar on a terminal, and a few lines in a log."""
    pause = 0.1 if sys.stderr.isatty() else 5.0
    with (
        contextlib.closing(results),
        tqdm(total=total, initial=done, desc=title, mininterval=pause) as bar,
    ):
        for result in results:
            yield result
            bar.update()


def write_failures(
    results: Mapping[str, Result], success_key: str, file: str | Path
) -> dict[str, str]:
    """Name -> cause of the results without ``success_key``; also the lines of ``file``."""
    failed = {
        name: facts.get("cause", "crashes the decoder")
        for name, facts in results.items()
        if success_key not in facts
    }
    write_text_atomic(file, "".join(f"{name}\t{cause}\n" for name, cause in failed.items()))
    return failed
