"""Folders of classes: what in them is a video, what a folder of frames, and what is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from slowfast.datasets.lists import (
    VIDEO_SUFFIXES,
    Item,
    check_class_names,
    check_names,
    holds_images,
)
from slowfast.utils.errors import UserError
from slowfast.utils.paths import Tree

PARTS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_MAX_SUFFIXES = 8  # in a message


@dataclass(frozen=True)
class ClassFolders:
    """``items`` with the index of their class in ``class_names``, which names every folder, empty
    ones too; ``left_out``: files that are no videos, and videos in no class, relative to
    ``root``."""

    root: Path
    items: list[Item]
    class_names: list[str]
    left_out: list[str] = field(default_factory=list)

    def without_videos(self) -> list[str]:
        """Names of the classes that have none."""
        present = {item.label for item in self.items}
        return [name for label, name in enumerate(self.class_names) if label not in present]

    def describe_left_out(self) -> str:
        """Files that were not taken, by suffix; empty if there are none."""
        if not self.left_out:
            return ""
        suffixes = Counter(Path(name).suffix.lower() or "no suffix" for name in self.left_out)
        kinds = [f"{count} {suffix}" for suffix, count in suffixes.most_common(_MAX_SUFFIXES)]
        return (
            f"left out, no video or in no class: {', '.join(kinds)}; "
            f"e.g. {os.path.join(self.root, self.left_out[0])}"
        )


def part_folders(root: str | Path) -> dict[str, Path]:
    """``train``, ``val`` and ``test`` -> the folder of that part below ``root``, where there is
    one; a class may be called train, too."""
    found = {}
    for part, names in PARTS.items():
        folders = [Path(root, name) for name in names if _holds_classes(Path(root, name))]
        if folders:
            found[part] = folders[0]
    return found


def _holds_classes(folder: Path) -> bool:
    """Whether it is a folder of folders, without videos of its own."""
    if not folder.is_dir():
        return False
    entries = Tree(folder, follow_links=True).entries()
    videos = any(e.is_file() and Path(e.name).suffix.lower() in VIDEO_SUFFIXES for e in entries)
    return not videos and any(entry.is_dir() for entry in entries)


def read_class_folders(root: str | Path, key: str, follow_links: bool = False) -> ClassFolders:
    """``root/<class>/<video>``; classes in alphabetical order.

    Videos in folders inside of a class folder belong to the class. A folder with images is a video
    itself, its frames. Links that lead out of ``root`` are left out, with a warning, unless
    ``follow_links``. UserError if there are no videos, or names cannot stand in a list.
    """
    tree = Tree(root, follow_links)
    if not tree.root.is_dir():
        raise UserError(f"there is no folder {root}", "it should hold one folder per class", key)
    entries = [entry for entry in tree.entries() if entry.name[0] != "."]
    classes = [entry.name for entry in entries if entry.is_dir()]
    left_out = [entry.name for entry in entries if not entry.is_dir()]
    items: list[Item] = []
    for label, name in enumerate(classes):
        for path, is_video in _walk(tree, name):
            if is_video:
                items.append(Item(os.path.join(tree.root, path), label))
            else:
                left_out.append(path)
    tree.warn()
    found = ClassFolders(tree.root, items, classes, left_out)
    if not items:
        raise UserError(
            f"{root} holds no <class>/<video> files",
            found.describe_left_out() or "put the videos of each class into a folder of its name",
            key,
        )
    check_class_names(classes, key)
    check_names((item.path for item in items), key)
    return found


def _walk(tree: Tree, top: str) -> Iterator[tuple[str, bool]]:
    """(path below the root, whether it is a video) of all in the folder ``top``, in alphabetical
    order; folders of frames are not entered."""
    seen = {os.path.realpath(tree.root)}

    def walk(folder: str) -> Iterator[tuple[str, bool]]:
        real = os.path.realpath(tree.root / folder)
        if real in seen:  # a link may lead to a folder above
            return
        seen.add(real)
        for entry in tree.entries(folder):
            path = os.path.join(folder, entry.name)
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                yield path, Path(entry.name).suffix.lower() in VIDEO_SUFFIXES
            elif holds_images(entry.path):
                yield path, True
            else:
                yield from walk(path)

    return walk(top)
