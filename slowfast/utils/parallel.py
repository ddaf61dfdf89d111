"""One function for many files: in parallel, resumable, robust against crashes of a worker."""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tqdm import tqdm

from slowfast.utils.files import append_line, make_dirs, write_text_atomic
from slowfast.utils.processes import enter_worker
from slowfast.utils.runtime import cpu_count

Work = Callable[[str], dict[str, Any]]
CRASHED = {"crashed": True}  # the result for a key whose work killed its process


def map_files(
    work: Work,
    keys: Sequence[str],
    journal: str | Path | None = None,
    *,
    workers: int | None = None,
    title: str = "",
    stamp: Callable[[str], str] = lambda key: "",
    is_valid: Callable[[str, dict[str, Any]], bool] = lambda key, result: True,
) -> dict[str, dict[str, Any]]:
    """``work(key)``, a dict of numbers and texts, for every key, over several processes.

    Results are appended to the JSON-lines file ``journal`` as they come, and read from it the next
    time, unless ``stamp(key)`` (for example size and time of a file) has changed or
    ``is_valid(key, result)`` is False (for example, an output file has been deleted). A key
    whose work kills its process (a decoder that crashes) gives :data:`CRASHED`. ``work`` and its
    results must be picklable. In the end the journal holds one line per key; those of ``keys``
    come last, in their order.
    """
    stamps = {key: stamp(key) for key in keys}
    done = _read_journal(journal, stamps) if journal else {}
    done = {key: result for key, result in done.items() if is_valid(key, result)}
    missing = [key for key in stamps if key not in done]
    pause = 0.1 if sys.stderr.isatty() else 5.0  # a bar on a terminal, a few lines in a log
    with tqdm(total=len(stamps), initial=len(done), desc=title, mininterval=pause) as bar:
        for key, result in _run(work, missing, workers or cpu_count()):
            done[key] = result
            if journal:
                append_line(journal, json.dumps(_row(key, stamps[key], result)))
            bar.update()
    if journal:  # in the order of the keys: the same file however often the work was stopped
        rows = {row["key"]: row for row in _rows(journal) if row["key"] not in stamps}
        rows |= {key: _row(key, stamps[key], done[key]) for key in stamps}
        write_text_atomic(journal, "".join(f"{json.dumps(row)}\n" for row in rows.values()))
    return {key: done[key] for key in stamps}


def write_failures(
    results: dict[str, dict[str, Any]], success_key: str, file: str | Path
) -> dict[str, str]:
    """Name -> cause of the results without ``success_key``; also the lines of ``file``."""
    failed = {
        name: facts.get("cause", "crashes the decoder")
        for name, facts in results.items()
        if success_key not in facts
    }
    write_text_atomic(file, "".join(f"{name}\t{cause}\n" for name, cause in failed.items()))
    return failed


def file_stamp(path: str) -> str:
    """Size and modification time of a file, as a text; empty if the file does not exist."""
    try:
        stat = Path(path).stat()
    except OSError:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _read_journal(journal: str | Path, stamps: dict[str, str]) -> dict[str, dict[str, Any]]:
    make_dirs(Path(journal).parent)
    with open(journal, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # incomplete: a process died while writing it
                file.write(b"\n")
    rows = _rows(journal)
    return {row["key"]: row["result"] for row in rows if stamps.get(row["key"]) == row["stamp"]}


def _rows(journal: str | Path) -> Iterator[dict[str, Any]]:
    """The lines of a journal that are whole."""
    with open(journal, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
                is_whole = isinstance(row["key"], str) and isinstance(row["result"], dict)
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # an incomplete line
            if is_whole and isinstance(row.get("stamp"), str):
                yield row


def _row(key: str, stamp: str, result: dict[str, Any]) -> dict[str, Any]:
    return {"key": key, "stamp": stamp, "result": result}


def _run(work: Work, keys: Iterable[str], workers: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Results as they come; after a crash the unfinished keys run one by one, each in a process of
    its own, to find the one that crashes."""
    remaining = deque(keys)
    while remaining:
        running: dict[Future, str] = {}
        with _pool(workers) as pool:
            try:
                while remaining or running:
                    while remaining and len(running) < 2 * workers:
                        future = pool.submit(work, remaining[0])
                        running[future] = remaining.popleft()
                    yield from _collect(running)
            except BrokenProcessPool:
                suspects = list(running.values())
            else:
                return
        for key in suspects:
            yield key, _run_alone(work, key)


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, initializer=enter_worker)


def _collect(running: dict[Future, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    ready, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in ready:
        result = future.result()  # a broken pool raises here, its key still among the running
        yield running.pop(future), result


def _run_alone(work: Work, key: str) -> dict[str, Any]:
    with _pool(1) as pool:
        try:
            return pool.submit(work, key).result()
        except BrokenProcessPool:
            return dict(CRASHED)
