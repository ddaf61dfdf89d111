"""Lists of few-shot sets: one line ``class/video`` per clip, and the files of these clips."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from slowfast.config.node import CfgNode
from slowfast.datasets.lists import (
    VIDEO_SUFFIXES,
    Item,
    ItemList,
    holds_images,
    raise_line_problems,
    read_lines,
)
from slowfast.utils.addresses import is_address, join
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.logging import get_logger
from slowfast.utils.paths import Tree
from slowfast.utils.remote import RemoteError, names_below
from slowfast.utils.text import shorten

logger = get_logger(__name__)

SPLITS = ("train", "val", "test")
PUBLISHED = Path(__file__).parent / "fewshot_splits"
_MAX_NAMES = 5  # names in a message


class ClipLine(NamedTuple):
    """A line ``class/video`` and its number."""

    class_name: str
    video: str
    line: int


def list_file(cfg: CfgNode, split: str) -> Path:
    """The list of a split: that of the published set FEWSHOT.SPLIT, or what DATA names."""
    if cfg.FEWSHOT.SPLIT:
        return PUBLISHED / cfg.FEWSHOT.SPLIT / f"{split}.txt"
    if is_address(cfg.DATA.PATH_TO_DATA_DIR):
        raise UserError(
            "is an address, but few-shot lists are read from a folder of this machine",
            "copy the lists here; DATA.PATH_PREFIX may be an address",
            "DATA.PATH_TO_DATA_DIR",
        )
    name = cfg.DATA[f"{split.upper()}_LIST"] or f"{split}.txt"
    return Path(cfg.DATA.PATH_TO_DATA_DIR) / name


def read_clip_list(file: Path) -> list[ClipLine]:
    """All lines of a list; UserError that names those that are not ``class/video``."""
    clips, problems = [], []
    for number, text in read_lines(file, "FEWSHOT.SPLIT"):
        class_name, _, video = text.partition("/")
        if not class_name or not video:
            problems.append(
                Problem(
                    f"is not class/video: {shorten(text)!r}", "see DATASET.md", f"{file}:{number}"
                )
            )
        clips.append(ClipLine(class_name, video, number))
    raise_line_problems(file, problems)
    return clips


def class_names(file: Path) -> list[str]:
    """The classes of a list in alphabetical order, which is the order of their labels."""
    return sorted({clip.class_name for clip in read_clip_list(file)})


def check_disjoint(files: dict[str, Path]) -> None:
    """UserError if two of the lists have a class in common."""
    names = {split: set(class_names(file)) for split, file in files.items()}
    problems = []
    for number, first in enumerate(names):
        for second in list(names)[number + 1 :]:
            shared = sorted(names[first] & names[second])
            if shared:
                shown = ", ".join(map(repr, shared[:_MAX_NAMES]))
                problems.append(
                    Problem(
                        f"{len(shared)} classes are in {first} and {second}: {shown}",
                        "a few-shot test needs classes that were never trained on",
                        str(files[second]),
                    )
                )
    if problems:
        raise UserError(problems)


class ClipFinder:
    """Finds ``class/video`` below a folder: video files or folders of images.

    Tried in turn: ``root/class/video``, ``root/video``, and the name anywhere below ``root`` if
    only one file or folder has it (an index is made once). UserError if there is no such folder.
    """

    def __init__(self, root: str | Path, follow_links: bool = False):
        self.root, self._follow_links = Path(root), follow_links
        if not self.root.is_dir():
            raise UserError(
                f"there is no folder {root}", "it holds <class>/<video>", "DATA.PATH_PREFIX"
            )
        self._index: dict[str, str] | None = None

    def find(self, class_name: str, video: str) -> str | None:
        """The path of a clip, or None."""
        for stem in (self.root / class_name / video, self.root / video):
            path = _existing_path(str(stem))
            if path:
                return path
        if self._index is None:
            self._index = _unique_names(Tree(self.root, self._follow_links))
        return self._index.get(Path(video).name.replace(" ", "_"))


class RemoteClipFinder:
    """Finds ``class/video`` below an address: video files, ``root/class/video`` or
    ``root/video``, in a listing that is made once. OSError if it cannot be made."""

    def __init__(self, root: str):
        self.root = root
        self._names = set(names_below(root))

    def find(self, class_name: str, video: str) -> str | None:
        """The address of a clip, or None."""
        stems = (f"{class_name}/{video}", video)
        names = (stem + suffix for stem in stems for suffix in ("", *VIDEO_SUFFIXES))
        found = next((name for name in names if name in self._names), None)
        return found and join(self.root, found)


def _unique_names(tree: Tree) -> dict[str, str]:
    paths: dict[str, list[str]] = defaultdict(list)
    for name, path in _walk(tree):
        paths[name].append(path)
    tree.warn()
    return {name: same_name[0] for name, same_name in paths.items() if len(same_name) == 1}


def _existing_path(stem: str) -> str | None:
    """The path itself, or with the suffix of a video file."""
    if os.path.isdir(stem) or os.path.isfile(stem):
        return stem
    return next((stem + s for s in VIDEO_SUFFIXES if os.path.isfile(stem + s)), None)


def _walk(tree: Tree) -> Iterable[tuple[str, str]]:
    """(name without suffix, path) of videos and folders of images; those are not entered."""
    waiting, seen = [""], {os.path.realpath(tree.root)}
    while waiting:
        folder = waiting.pop()
        for entry in tree.entries(folder):
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                if holds_images(entry.path):
                    yield entry.name.replace(" ", "_"), entry.path
                elif real not in seen:  # a link may lead to a folder above
                    seen.add(real)
                    waiting.append(os.path.join(folder, entry.name))
            elif entry.name.lower().endswith(VIDEO_SUFFIXES):
                yield Path(entry.name).stem.replace(" ", "_"), entry.path


def read_clips(cfg: CfgNode, split: str) -> ItemList:
    """The clips of a split that exist; UserError if there are none.

    Labels number the classes of the split. A warning counts missing clips.
    """
    file = list_file(cfg, split)
    names = class_names(file)
    labels = {name: label for label, name in enumerate(names)}
    root = cfg.DATA.PATH_PREFIX or cfg.DATA.PATH_TO_DATA_DIR
    try:
        remote = is_address(root)
        finder = RemoteClipFinder(root) if remote else ClipFinder(root, cfg.DATA.FOLLOW_LINKS)
    except RemoteError as error:
        raise UserError(f"{root} {error.strerror}", "", "DATA.PATH_PREFIX") from error
    items, missing = [], []
    for clip in read_clip_list(file):
        path = finder.find(clip.class_name, clip.video)
        if path:
            items.append(Item(path, labels[clip.class_name], 0, clip.line))
        else:
            missing.append(f"{clip.class_name}/{clip.video}")
    if not items:
        raise UserError(
            f"none of the {len(missing)} clips of {file} is below {finder.root}, e.g. {missing[0]}",
            "clips are <class>/<video>, video files or folders of images",
            "DATA.PATH_PREFIX",
        )
    if missing:
        logger.warning(
            "%s: %d of %d clips are not below %s, e.g. %s: left out",
            file,
            len(missing),
            len(missing) + len(items),
            finder.root,
            missing[0],
        )
    return ItemList(items, str(file), names)
