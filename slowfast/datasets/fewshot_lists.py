"""Lists of few-shot sets, ``class/video`` a line, and where those clips are on this machine."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from slowfast.config.node import CfgNode
from slowfast.datasets.lists import VIDEO_SUFFIXES, Item, ItemList, raise_line_problems, read_lines
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

SPLITS = ("train", "val", "test")
_PUBLISHED = Path(__file__).parent / "fewshot_splits"
_IMAGES = (".jpg", ".jpeg", ".png")


def list_file(cfg: CfgNode, split: str) -> Path:
    """The list of a split: a published one, or what DATA names."""
    if cfg.FEWSHOT.SPLIT:
        return _PUBLISHED / cfg.FEWSHOT.SPLIT / f"{split}.txt"
    name = cfg.DATA[f"{split.upper()}_LIST"] or f"{split}.txt"
    return Path(cfg.DATA.PATH_TO_DATA_DIR) / name


def read_clip_list(file: Path) -> list[tuple[str, str, int]]:
    """(class, video, line number) of each line ``class/video``; UserError names bad lines."""
    clips, problems = [], []
    for number, line in read_lines(file, "FEWSHOT.SPLIT"):
        name, slash, video = line.partition("/")
        if not slash or not name or not video:
            problems.append(
                Problem(f"is no class/video: {line!r}", "see DATASET.md", f"{file}:{number}")
            )
        clips.append((name, video, number))
    raise_line_problems(file, problems)
    return clips


def class_names(file: Path) -> list[str]:
    """The classes of a list, in alphabetical order: the number of a class is its place."""
    return sorted({name for name, _, _ in read_clip_list(file)})


def check_disjoint(files: dict[str, Path]) -> None:
    """UserError if a class is in two of the lists."""
    names = {split: set(class_names(file)) for split, file in files.items()}
    problems = []
    for number, one in enumerate(names):
        for other in list(names)[number + 1 :]:
            both = sorted(names[one] & names[other])
            if both:
                shown = ", ".join(map(repr, both[:5]))
                problems.append(
                    Problem(
                        f"{len(both)} classes are in {one} and {other}: {shown}",
                        "a few-shot test needs classes that were never trained on",
                        str(files[other]),
                    )
                )
    if problems:
        raise UserError(problems)


class ClipFinder:
    """Finds ``class/video`` below a folder: video files or folders of images.

    Tried in turn: ``root/class/video``, ``root/video``, and the name anywhere below ``root`` if it
    is there only once (an index is made once).
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(
                f"there is no folder {root}", "it holds <class>/<video>", "DATA.PATH_PREFIX"
            )
        self._index: dict[str, str] | None = None

    def find(self, name: str, video: str) -> str | None:
        """The path of a clip, or None."""
        for stem in (self.root / name / video, self.root / video):
            found = _present(str(stem))
            if found:
                return found
        if self._index is None:
            self._index = _unique_names(self.root)
        return self._index.get(Path(video).name.replace(" ", "_"))


def _unique_names(root: Path) -> dict[str, str]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, path in _walk(root):
        found[name].append(path)
    return {name: paths[0] for name, paths in found.items() if len(paths) == 1}


def _present(stem: str) -> str | None:
    if os.path.isdir(stem) or os.path.isfile(stem):
        return stem
    return next((stem + s for s in VIDEO_SUFFIXES if os.path.isfile(stem + s)), None)


def _walk(folder: Path) -> Iterable[tuple[str, str]]:
    """(name without suffix, path) of videos and folders of images; those are not entered."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_dir():
                if _holds_images(entry.path):
                    yield entry.name.replace(" ", "_"), entry.path
                else:
                    yield from _walk(Path(entry.path))
            elif entry.name.lower().endswith(VIDEO_SUFFIXES):
                yield Path(entry.name).stem.replace(" ", "_"), entry.path


def _holds_images(folder: str) -> bool:
    with os.scandir(folder) as entries:
        first = next(iter(entries), None)
    return first is not None and first.name.lower().endswith(_IMAGES)


def read_clips(cfg: CfgNode, split: str) -> ItemList:
    """The clips of a split that are there; UserError if none is.

    Labels number the classes of the split. Absent clips are counted in the log.
    """
    file = list_file(cfg, split)
    names = class_names(file)
    labels = {name: label for label, name in enumerate(names)}
    finder = ClipFinder(cfg.DATA.PATH_PREFIX or cfg.DATA.PATH_TO_DATA_DIR)
    items, absent = [], []
    for name, video, line in read_clip_list(file):
        path = finder.find(name, video)
        if path:
            items.append(Item(path, labels[name], 0, line))
        else:
            absent.append(f"{name}/{video}")
    if not items:
        raise UserError(
            f"none of the {len(absent)} clips of {file} is below {finder.root}, e.g. {absent[0]}",
            "clips are <class>/<video>, video files or folders of images",
            "DATA.PATH_PREFIX",
        )
    if absent:
        logger.warning(
            "%s: %d of %d clips are not below %s, e.g. %s: left out",
            file,
            len(absent),
            len(absent) + len(items),
            finder.root,
            absent[0],
        )
    return ItemList(items, str(file), names)
