"""Writing shards: the videos of a list, in its order, as tar files of about the same size."""

from __future__ import annotations

import functools
import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from slowfast.datasets.items import Item, ItemList, locate
from slowfast.datasets.lists import VIDEO_SUFFIXES
from slowfast.datasets.shard_index import NAME, Member, ShardIndex
from slowfast.utils.addresses import is_address
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.files import (
    make_dirs,
    remove_leftovers,
    short_hash,
    write_atomic,
    write_text_atomic,
)
from slowfast.utils.map import HERE, Result, Where, map_items
from slowfast.utils.remote import version_of
from slowfast.utils.remote_file import open_file

_BLOCK, _RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
_MOST = 0o77777777777  # bytes of a member of a USTAR file
_MAX_REPORTED = 5
_JOURNAL = "journal.jsonl"  # which shards are written, and a digest of what each was made of


class _Entry(NamedTuple):
    """A video and the two members that it becomes."""

    item: Item
    key: str
    suffix: str
    size: int
    facts: bytes
    labels: str
    name: str
    version: str

    @property
    def source(self) -> list[Any]:
        """What decides the bytes of the two members."""
        facts = self.facts.decode()
        return [self.key, self.suffix, self.size, facts, str(self.item.path), self.version]


@dataclass
class Plan:
    """What a list becomes: its shards (name -> videos) in ``folder``, all places known before
    anything is written."""

    folder: Path
    shards: dict[str, list[_Entry]]

    def files(self) -> list[Path]:
        """What is written."""
        return [self.folder / name for name in (*self.shards, NAME, _JOURNAL)]

    def index(self) -> ShardIndex:
        """The index of the shards."""
        members, sizes = [], {}
        for name, entries in self.shards.items():
            place = 0
            for entry in entries:
                start = place + _BLOCK
                members.append(Member(name, start, entry.size, entry.labels, entry.name))
                place = start + _padded(entry.size) + _BLOCK + _padded(len(entry.facts))
            place += 2 * _BLOCK  # the end of a tar file
            sizes[name] = -(-place // _RECORD) * _RECORD
        return ShardIndex(sizes, members)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def plan_shards(item_list: ItemList, prefix: str, folder: Path, megabytes: float) -> Plan:
    """The shards of a list, each of about ``megabytes``; names in them are paths below ``prefix``.

    UserError that names videos that are missing, empty, or no files of one video (folders of
    images).
    """
    problems: list[Problem] = []
    shards: dict[str, list[_Entry]] = {}
    room = 0.0
    for number, item in enumerate(item_list.items):
        try:
            entry = _entry(item, number, prefix)
        except (OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or str(error)
            problems.append(Problem(cause, "", locate(item_list.source, item)))
            continue
        if not shards or entry.size > room:
            name = f"{len(shards):06d}.tar"
            shards[name], room = [], megabytes * 1e6
        shards[name].append(entry)
        room -= entry.size
    if problems:
        more = len(problems) - _MAX_REPORTED
        tail = [Problem(f"and {more} more videos of {item_list.source}")] if more > 0 else []
        remedy = "tools/check_data.py writes a list of the good ones"
        raise UserError([*problems[:_MAX_REPORTED], *tail, Problem(remedy)])
    return Plan(folder, shards)


def _entry(item: Item, number: int, prefix: str) -> _Entry:
    """ValueError or OSError if it cannot stand in a shard."""
    suffix = os.path.splitext(item.path)[1].lower()
    if item.image_names or os.path.isdir(item.path) or suffix not in VIDEO_SUFFIXES:
        raise ValueError("is no video file")
    size, version = _size_and_version(item.path)
    if not size:
        raise ValueError("is empty")
    if size > _MOST:
        raise ValueError("has more than 8 GiB, the most that a member of a shard can have")
    name = item.path.removeprefix(f"{prefix.rstrip('/')}/") if prefix else item.path
    labels = list(item.labels)
    facts: dict[str, Any] = {"path": name}
    facts |= {"label": item.label} if item.label >= 0 else {"labels": labels}
    content = json.dumps(facts).encode()
    text = ",".join(map(str, labels))
    return _Entry(item, f"{number:09d}", suffix, size, content, text, name, version)


def _size_and_version(path: str) -> tuple[int, str]:
    """The bytes of a video, and a text that another content has not."""
    if is_address(path):
        return version_of(path)
    stat = os.stat(path)
    return stat.st_size, str(stat.st_mtime_ns)


def write_shards(plan: Plan, where: Where = HERE) -> None:
    """Write the shards and, last, their index; those that are there and were made of the same
    videos and labels in the same order stay. A killed call leaves whole shards only. ``where``: on
    which machines; a share of the shards is written without an index.

    UserError if the folder holds other shards.
    """
    make_dirs(plan.folder, "--out")
    index = plan.index()
    strange = sorted(p.name for p in plan.folder.glob("*.tar") if p.name not in plan.shards)
    if strange:
        remedy = "name another folder, or remove them"
        raise UserError(f"{plan.folder} holds other shards, e.g. {strange[0]}", remedy, "--out")

    def begin(missing: list[str]) -> None:
        if missing:  # the index may be of other content
            (plan.folder / NAME).unlink(missing_ok=True)

    shards = {name: plan.shards[name] for name in where.part(list(plan.shards))}
    map_items(
        functools.partial(_write_shard, folder=plan.folder, shards=shards),
        list(plan.shards),
        plan.folder / _JOURNAL,
        where=where,
        title=f"writing {plan.folder}",
        stamp=lambda name: short_hash(json.dumps([entry.source for entry in shards[name]])),
        is_valid=lambda name, result: _has_size(plan.folder / name, index.shards[name]),
        begin=begin,
    )
    remove_leftovers((plan.folder / name for name in shards), of_all_machines=True)
    if where.share is None:
        write_text_atomic(plan.folder / NAME, index.text())


def _write_shard(name: str, folder: Path, shards: dict[str, list[_Entry]]) -> Result:
    """Write one shard, whole or not at all."""
    write_atomic(folder / name, lambda temporary: _write(shards[name], temporary))
    return {"videos": len(shards[name])}


def _has_size(target: Path, size: int) -> bool:
    try:
        return target.stat().st_size == size
    except OSError:
        return False


def _write(entries: Sequence[_Entry], target: str) -> None:
    """A tar file that is the same whenever it is written."""
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as archive:
        for entry in entries:
            with open_file(entry.item.path) as file:
                _add(archive, f"{entry.key}{entry.suffix}", entry.size, file)
            _add(archive, f"{entry.key}.json", len(entry.facts), io.BytesIO(entry.facts))


def _add(archive: tarfile.TarFile, name: str, size: int, file: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    archive.addfile(info, file)
