"""Shards: tar files in WebDataset's layout, and the index that says where each video is in them.

A video is a member ``<key>.mp4`` (or another suffix of a video) with its label beside it:
``<key>.json`` with ``label`` (or ``labels``), or ``<key>.cls``. The index has a line a video, in
the order of the members, so that a video is one ranged read of its shard.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from slowfast.datasets.fields import is_count
from slowfast.datasets.lists import VIDEO_SUFFIXES
from slowfast.utils.addresses import is_address, join
from slowfast.utils.errors import UserError
from slowfast.utils.files import locked, short_hash, write_text_atomic
from slowfast.utils.logging import get_logger
from slowfast.utils.paths import leads_up
from slowfast.utils.remote import cache_folder, exists, versions_below
from slowfast.utils.remote_file import open_file
from slowfast.utils.text import name_problem, read_text, shorten

logger = get_logger(__name__)

NAME = "index.tsv"
_HEAD = "# videos in shards, version 1: shard, first byte, bytes, labels, name"
_KEY = "DATA.PATH_TO_DATA_DIR"
_UNLISTED = ("http://", "https://")
_MAX_FACTS = 1 << 20  # bytes of a member with facts about a video


class Member(NamedTuple):
    """A video in a shard: ``shard`` by its name below the folder, its ``size`` bytes from ``start``
    on, ``labels`` as a text (``3`` or ``3,7``), and its ``name``, for people."""

    shard: str
    start: int
    size: int
    labels: str
    name: str


class ShardIndex(NamedTuple):
    """``shards``: name -> bytes, in order; ``members``: their videos, in order."""

    shards: dict[str, int]
    members: list[Member]

    def text(self) -> str:
        """The content of the file."""
        lines = [_HEAD]
        lines += [f"# {size}\t{name}" for name, size in self.shards.items()]
        lines += ["\t".join(map(str, member)) for member in self.members]
        return "".join(f"{line}\n" for line in lines)


def parse_index(text: str, path: str) -> ShardIndex:
    """The index in a text; UserError with file and line if it is none, or leads out of a shard."""
    lines = text.split("\n")
    if lines[0] != _HEAD:
        raise UserError("is no index of shards", "remove it: it is made anew", path)
    shards: dict[str, int] = {}
    members = []
    for number, line in enumerate(lines[1:], 2):
        fields = line.split("\t")
        try:
            if line.startswith("# "):
                shards[_inside(fields[1])] = int(fields[0][2:])
            elif line:
                shard, start, size, labels, name = fields
                member = Member(shard, int(start), int(size), labels, name)
                end = member.start + member.size
                if not 0 <= member.start < end <= shards[shard] or name_problem(name):
                    raise ValueError
                members.append(member)
        except (ValueError, LookupError):
            what = f"cannot be read: {shorten(line)!r}"
            raise UserError(what, "remove the index: it is made anew", f"{path}:{number}") from None
    return ShardIndex(shards, members)


def _inside(name: str) -> str:
    """A name below a folder; ValueError if it leads elsewhere."""
    if name.startswith("/") or leads_up(name) or is_address(name) or not name:
        raise ValueError(name)
    return name


# -- finding -------------------------------------------------------------------------------------


def read_index(folder: str) -> ShardIndex:
    """The index of the shards in a folder or at an address: ``index.tsv`` there, the one that an
    earlier run has made, or a new one from the heads of the members. One of this machine that is
    older than a shard is made anew.

    UserError if there are no shards, if the index is of other ones, or if a video has no label.
    """
    path = join(folder, NAME)
    try:
        if folder.startswith(_UNLISTED):
            return _index_of_server(path)
        versions = _versions(folder)
        present = {name: size for name, (size, _) in versions.items()}
        if not present:
            raise UserError(f"{folder} holds no shards (*.tar)", f"check {_KEY}", _KEY)
        key = short_hash(folder, json.dumps(versions))
        kept = cache_folder() / "indexes" / f"{key}.tsv"
        index = _known(folder, present, path, kept)
        if index is None:
            with locked(kept.with_suffix(".lock")):  # one process of a machine reads the heads
                index = _known(folder, present, path, kept)
                if index is None:
                    index = make_index(folder, present)
                    _keep(index, path, kept)
        return index
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror or error}", "", _KEY) from error


def _known(folder: str, present: dict[str, int], path: str, kept: Path) -> ShardIndex | None:
    """The index beside the shards, or the one in the cache; None if there is none of these shards.
    UserError if that beside them is of shards of other sizes."""
    for file in (path, str(kept)):
        if not exists(file):
            continue
        index = parse_index(read_text(file), file)
        if index.shards != present:
            what = f"is of other shards than those of {folder}"
            raise UserError(what, "remove it: it is made anew", file)
        if file == path and not is_address(path) and _is_older(path, folder, present):
            logger.info("%s is older than its shards and is made anew", path)
            continue
        return index
    return None


def _is_older(path: str, folder: str, names: Iterable[str]) -> bool:
    """Whether a shard was written after the index: one of the same size may hold other labels."""
    made = os.stat(path).st_mtime_ns
    return any(os.stat(join(folder, name)).st_mtime_ns > made for name in names)


def _index_of_server(path: str) -> ShardIndex:
    """The index on a web server, which does not say what files it has."""
    if not exists(path):
        remedy = f"make it before the shards go there (make_shards.py --index), and add {NAME}"
        raise UserError(f"there is no {path}, and a web server lists no shards", remedy, _KEY)
    return parse_index(read_text(path), path)


def _versions(folder: str) -> dict[str, tuple[int, str]]:
    """Name -> bytes and version of the shards of a folder, in the order of their names."""
    if is_address(folder):
        found = versions_below(folder)
    else:
        root = Path(folder)
        stats = {str(path.relative_to(root)): path.stat() for path in root.rglob("*.tar")}
        found = {name: (stat.st_size, str(stat.st_mtime_ns)) for name, stat in stats.items()}
    return {name: found[name] for name in sorted(found) if name.endswith(".tar")}


def _keep(index: ShardIndex, path: str, kept: Path) -> None:
    """Write a new index beside the shards, or where this machine keeps copies."""
    target = Path(path)
    if is_address(path) or not os.access(target.parent, os.W_OK):
        kept.parent.mkdir(parents=True, exist_ok=True)
        target = kept
    write_text_atomic(target, index.text())
    logger.info("%d videos in %d shards: %s", len(index.members), len(index.shards), target)


def make_index(folder: str, shards: dict[str, int]) -> ShardIndex:
    """The index from the heads of all members of the shards; UserError naming the shard, and the
    member, if one is no such tar file or a video has no label."""
    logger.info("reading the heads of %d shards of %s", len(shards), folder)
    members = [member for name in shards for member in _members(folder, name)]
    if not members:
        raise UserError(f"the shards of {folder} hold no videos", f"check {_KEY}", _KEY)
    return ShardIndex(dict(shards), members)


def _members(folder: str, shard: str) -> Iterator[Member]:
    path = join(folder, shard)
    try:
        with open_file(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for key, parts in _groups(archive):
                videos = [part for part in parts if _suffix(part) in VIDEO_SUFFIXES]
                if not videos:
                    continue
                facts = _facts(archive, parts)
                labels = _labels_of(facts)
                if labels is None:
                    remedy = f'a video needs {key}.json with {{"label": 3}}, or {key}.cls'
                    raise UserError(f"{videos[0].name} has no label", remedy, path)
                name = str(facts.get("path") or videos[0].name)
                if name_problem(name) or "://" in name:  # an address may hold a secret
                    name = videos[0].name
                yield Member(shard, videos[0].offset_data, videos[0].size, labels, name)
    except tarfile.TarError as error:
        raise UserError(f"is no readable tar file: {error}", "copy it again", path) from error


def _groups(archive: tarfile.TarFile) -> Iterator[tuple[str, list[tarfile.TarInfo]]]:
    """Neighbouring files with the same key, which ends at the first point of their name."""
    key, parts = "", []
    for info in archive:
        if not info.isreg() or info.size == 0:
            continue
        folder, _, name = info.name.rpartition("/")
        own = join(folder, name.partition(".")[0])
        if parts and own != key:
            yield key, parts
            parts = []
        key = own
        parts.append(info)
    if parts:
        yield key, parts


def _suffix(info: tarfile.TarInfo) -> str:
    return os.path.splitext(info.name)[1].lower()


def _facts(archive: tarfile.TarFile, parts: Sequence[tarfile.TarInfo]) -> dict[str, Any]:
    """What ``.json`` and ``.cls`` beside a video say."""
    facts: dict[str, Any] = {}
    for info in parts:
        suffix = _suffix(info)
        if suffix not in (".json", ".cls") or info.size > _MAX_FACTS:
            continue
        content = archive.extractfile(info).read()
        if suffix == ".cls":
            facts.setdefault("label", content.decode("utf-8", "replace").strip())
            continue
        try:
            read = json.loads(content)
        except (ValueError, RecursionError):
            continue
        facts |= read if isinstance(read, dict) else {}
    return facts


def _labels_of(facts: dict[str, Any]) -> str | None:
    values = facts.get("labels", facts.get("label"))
    values = values if isinstance(values, list) else [values]
    texts = [str(value) for value in values if not isinstance(value, (bool, float))]
    good = len(texts) == len(values) and all(is_count(text) for text in texts)
    return ",".join(texts) if good else None
