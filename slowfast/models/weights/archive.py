"""Zip archives of tensors: every record is verified before anything in it is used.

PyTorch does not compare the CRC-32 that its archives hold. Archives that this package writes have,
as their last record, a table with a SHA-256 of every other one (:func:`add_checksums`); readers
that do not know the table pass over it.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

TABLE = "checksums.json"  # the record with the table, beside data.pkl
_CHUNK = 1 << 20
# Far beyond what networks have (350 000 records); a directory costs 13 times its size in memory.
_MAX_DIRECTORY = 32 << 20
# Records that are compressed: sources of TorchScript, which are verified, but not kept.
_MAX_COMPRESSED = 64 << 20
_MAX_TABLE = 64 << 20
_END, _END64_LOCATOR, _END64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
_LOCAL = struct.Struct("<4s2x2H4x3I2H")  # flags, method; CRC, two sizes, two lengths
_HAS_DESCRIPTOR, _ENCRYPTED = 0x08, 0x01
_IN_EXTRA = 0xFFFFFFFF  # a size of more than 32 bits stands in the extra field


class DamagedError(ValueError):
    """The bytes of a file contradict each other, or claim more than there is."""


class Record(NamedTuple):
    """A file inside the archive: its directory entry, and where its bytes begin."""

    info: zipfile.ZipInfo
    offset: int

    @property
    def is_stored(self) -> bool:
        """Whether the bytes stand in the archive as they are."""
        return self.info.compress_type == zipfile.ZIP_STORED


class Archive:
    """The records of an open zip file by name, with headers that agree with the directory.

    DamagedError, zipfile.BadZipFile or struct.error if they do not. Nothing but the directory is
    read before :meth:`verify`.
    """

    def __init__(self, file: BinaryIO):
        self.file = file
        self.size = file.seek(0, 2)
        _check_directory_size(file, self.size)
        self._zip = zipfile.ZipFile(file)
        self.records: dict[str, Record] = {}
        end = 0
        for info in sorted(self._zip.infolist(), key=lambda info: info.header_offset):
            if info.filename in self.records:
                raise DamagedError(f"two records are called {info.filename!a}")
            if info.header_offset < end:
                raise DamagedError(f"{info.filename!a} overlaps another record")
            record = Record(info, self._data_offset(info))
            end = record.offset + info.compress_size
            if end > self._zip.start_dir:
                raise DamagedError(f"{info.filename!a} claims more bytes than there are")
            self.records[info.filename] = record
        self.root = self._find_root()

    def _find_root(self) -> str:
        """The folder with data.pkl, with its slash; empty if there is none."""
        found = [
            name for name in self.records if name.count("/") == 1 and name.endswith("/data.pkl")
        ]
        return found[0].removesuffix("data.pkl") if len(found) == 1 else ""

    def _data_offset(self, info: zipfile.ZipInfo) -> int:
        """Where the bytes of a record begin; DamagedError if header and directory differ."""
        self.file.seek(info.header_offset)
        header = self.file.read(_LOCAL.size)
        signature, flags, method, crc, packed, size, name, extra = _LOCAL.unpack(header)
        stored_name = self.file.read(name)
        agree = (
            signature == b"PK\x03\x04"
            and stored_name == info.orig_filename.encode("utf-8" if flags & 0x800 else "cp437")
            and (flags, method) == (info.flag_bits, info.compress_type)
        )
        if agree and not flags & _HAS_DESCRIPTOR:
            sizes = (info.compress_size, info.file_size)
            agree = crc == info.CRC and all(
                short in (size, _IN_EXTRA) for short, size in zip((packed, size), sizes)
            )
        if not agree or flags & _ENCRYPTED:
            raise DamagedError(f"the header of {info.orig_filename!a} is damaged")
        if method == zipfile.ZIP_STORED and info.compress_size != info.file_size:
            raise DamagedError(f"{info.orig_filename!a} has two sizes")
        return info.header_offset + _LOCAL.size + name + extra

    def get(self, name: str) -> Record:
        """The record below the root called ``name``, which is stored uncompressed."""
        record = self.records.get(self.root + name)
        if record is None:
            raise DamagedError(f"there is no record {name!a}")
        if not record.is_stored:
            raise DamagedError(f"the record {name!a} is compressed, which PyTorch never does")
        return record

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of a record of at most ``limit`` bytes."""
        record = self.get(name)
        if record.info.file_size > limit:
            raise DamagedError(f"{name!a} has {record.info.file_size} bytes, {limit} are allowed")
        self.file.seek(record.offset)
        return self.file.read(record.info.file_size)

    def digests(self) -> dict[str, str]:
        """Name below the root -> SHA-256 of every record but the table."""
        table, found = self.root + TABLE, {}
        for name, record in self.records.items():
            if name != table:
                digest = hashlib.sha256()
                for chunk in self._chunks(record):
                    digest.update(chunk)
                found[name.removeprefix(self.root)] = digest.hexdigest()
        return found

    def _check_compressed(self) -> None:
        compressed = sum(r.info.file_size for r in self.records.values() if not r.is_stored)
        if compressed > _MAX_COMPRESSED:
            raise DamagedError(f"it claims to hold {compressed} bytes in compressed records")

    def _check_crc(self, names: Iterable[str]) -> None:
        for name in names:
            crc = 0
            for chunk in self._chunks(self.records[name]):
                crc = zlib.crc32(chunk, crc)
            if crc != self.records[name].info.CRC:
                raise DamagedError(f"the bytes of {name!a} have changed (CRC-32)")

    def _chunks(self, record: Record) -> Iterator[bytes | memoryview]:
        if not record.is_stored:
            with self._zip.open(record.info) as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
            return
        self.file.seek(record.offset)
        buffer, left = memoryview(bytearray(_CHUNK)), record.info.file_size
        while left:
            count = self.file.readinto(buffer[: min(left, _CHUNK)])
            if not count:
                raise DamagedError("it ends too early")
            left -= count
            yield buffer[:count]

    def verify(self) -> bool:
        """Compare all bytes with the table of checksums, or without one with the CRC-32 of each
        record; returns whether there is a table. DamagedError if anything differs."""
        self._check_compressed()
        if self.root + TABLE not in self.records:
            self._check_crc(self.records)
            return False
        self._check_crc([self.root + TABLE])
        digests = self.digests()
        table = json.loads(self.read(TABLE, _MAX_TABLE))
        if table != {"sha256": digests}:
            expected = table.get("sha256", {})
            changed = sorted(k for k in {*digests, *expected} if digests.get(k) != expected.get(k))
            raise DamagedError(f"{', '.join(changed[:3])} differ from the table of checksums")
        return True


def _check_directory_size(file: BinaryIO, size: int) -> None:
    """DamagedError if the directory of the archive is larger than any network needs."""
    start = max(0, size - 65557)  # the longest comment
    file.seek(start)
    tail = file.read()
    found = tail.rfind(_END)
    if found < 0 or len(tail) - found < 22:
        raise DamagedError("its end is missing")
    directory = struct.unpack_from("<I", tail, found + 12)[0]
    if found >= 20 and tail[found - 20 : found - 16] == _END64_LOCATOR:
        file.seek(struct.unpack_from("<Q", tail, found - 12)[0])
        end64 = file.read(56)
        if end64[:4] != _END64 or len(end64) < 56:
            raise DamagedError("its end is damaged")
        directory = struct.unpack_from("<Q", end64, 40)[0]
    if directory > min(size, _MAX_DIRECTORY):
        raise DamagedError(f"it claims a directory of {directory} bytes")


def is_archive(file: BinaryIO) -> bool:
    """Whether a file is, or has once been, a zip archive; leaves the position at its start."""
    file.seek(0)
    first = file.read(4)
    found = first == b"PK\x03\x04" or zipfile.is_zipfile(file)
    file.seek(0)
    return found


def add_checksums(path: str | Path) -> None:
    """Append the table of checksums to an archive of ``torch.save``; once, just after writing."""
    with open(path, "rb") as file:
        archive = Archive(file)
        name, digests = archive.root + TABLE, archive.digests()
    with zipfile.ZipFile(path, "a") as target:
        # A fixed date: equal contents give equal files.
        target.writestr(zipfile.ZipInfo(name), json.dumps({"sha256": digests}))
