"""The words of a command line -> the videos that they mean."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slowfast.datasets.lists import VIDEO_SUFFIXES, find_separator, read_lines, read_path_list
from slowfast.utils.errors import UserError
from slowfast.utils.paths import Tree
from slowfast.video.source import IMAGE_SUFFIXES

_LISTS = (".csv", ".txt", ".tsv")
_STREAMS = ("rtsp://", "rtsps://", "rtmp://", "rtmps://", "udp://", "tcp://", "srt://", "rtp://")
STDIN = "-"


@dataclass
class Found:
    """``videos``: paths and addresses in the order of the words; ``ignored``: files that are none;
    ``lists``: files in which videos were named."""

    videos: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)


def is_live(word: str) -> bool:
    """Whether a word is a camera (its number or device) or the address of a stream."""
    if word.isdecimal():
        return not os.path.exists(word)
    return word.startswith((*_STREAMS, "/dev/video")) or word.endswith(".m3u8")


def collect(words: Iterable[str]) -> Found:
    """Files, folders (with all below them), lists (``.csv``, ``.txt``), addresses, and ``-`` for
    paths from standard input.

    A folder of numbered images is one video. UserError if a list cannot be read, or a folder holds
    no video.
    """
    found = Found()
    for word in words:
        path = Path(word).expanduser()
        if word == STDIN:
            found.videos += [line for line in map(str.strip, sys.stdin) if line]
        elif is_live(word) or "://" in word:
            found.videos.append(word)
        elif path.is_dir():
            _add_folder(path, found)
        elif path.suffix.lower() in _LISTS:
            found.lists.append(str(path))
            found.videos += _read_list(path)
        else:
            found.videos.append(str(path))
    return found


def _add_folder(root: Path, found: Found) -> None:
    tree = Tree(root)
    names = tree.files()
    videos = [name for name in names if Path(name).suffix.lower() in VIDEO_SUFFIXES]
    frames = sorted({os.path.dirname(name) for name in names if _is_image(name)})
    clips = [folder for folder in frames if not _has_videos(folder, videos)]
    if not videos and not clips:
        raise UserError(
            f"{root} holds no videos ({' '.join(VIDEO_SUFFIXES)}) and no folders of images",
            "name another folder",
            "VIDEO",
        )
    found.videos += [str(root / name) for name in sorted([*videos, *clips])]
    taken = set(videos)
    found.ignored += [
        str(root / name)
        for name in names
        if name not in taken and not (_is_image(name) and os.path.dirname(name) in clips)
    ]
    found.ignored += tree.left_out


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def _has_videos(folder: str, videos: Sequence[str]) -> bool:
    """Pictures beside videos are no frames."""
    return any(os.path.dirname(name) == folder for name in videos)


def _read_list(path: Path) -> list[str]:
    """The paths of a list, with labels or without; relative to the current folder, or to the
    list's."""
    lines = read_lines(path, "VIDEO")
    names = [line.strip('"') for _, line in lines]
    if not all(_exists(name, path.parent) for name in names[:20]):
        names = list(_labelled(path, lines)) or names
    return [_located(name, path.parent) for name in names]


def _labelled(path: Path, lines: Sequence[tuple[int, str]]) -> Iterator[str]:
    """Paths of lines that end with a label; nothing if they do not."""
    separator = find_separator(lines, " ", str(path))
    try:
        items = read_path_list(path, separator, "", "VIDEO")
    except UserError:
        return
    yield from (item.path for item in items)


def _exists(name: str, folder: Path) -> bool:
    return os.path.exists(_located(name, folder)) or "://" in name


def _located(name: str, folder: Path) -> str:
    """``name`` itself, or below the list's folder, if it is there and not here."""
    beside = folder / name
    return str(beside) if not os.path.exists(name) and beside.exists() else name
