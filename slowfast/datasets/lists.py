"""Reading of lists: every published format becomes a list of :class:`Item`.

A line that cannot be parsed is an error that names file and line.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slowfast.utils.errors import Problem, UserError
from slowfast.utils.files import path_manager, short_hash
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv")
_SEPARATORS = (" ", ",", "\t", ";")
_MAX_REPORTED = 5  # problems per list


@dataclass(frozen=True, slots=True)
class Item:
    """One video: ``path`` of a file or frame folder, ``label``, ``num_frames`` (0: unknown), and
    the ``line`` of the list (0: unknown)."""

    path: str
    label: int
    num_frames: int = 0
    line: int = 0


@dataclass(frozen=True)
class ItemList:
    """The items of a split, the file or folder they come from, and the class names in label order
    (empty if unknown)."""

    items: list[Item]
    source: str
    class_names: list[str] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        """Number of videos and a hash of file names and labels: equal for equal copies of a set."""
        rows = (f"{os.path.basename(i.path)} {i.label}\n" for i in self.items)
        return f"{len(self.items)} videos, {short_hash(*rows)}"


def read_lines(path: str | Path, key: str, remedy: str = "") -> list[tuple[int, str]]:
    """(line number, stripped line) of the non-empty lines; UserError naming ``key`` if the file
    does not exist or is empty."""
    try:
        with path_manager.open(str(path), encoding="utf-8") as file:
            lines = [(number, line.strip()) for number, line in enumerate(file, 1)]
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"there is no file {path}", remedy or f"check {key}", key) from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file", "lists are UTF-8 text", key) from None
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise UserError(f"{path} is empty", "a list needs one line per video", key)
    return lines


def raise_line_problems(path: str | Path, problems: list[Problem]) -> None:
    """UserError with the first few problems of a list, if there are any."""
    if problems:
        more = len(problems) - _MAX_REPORTED
        tail = [Problem(f"and {more} more lines of {path}")] if more > 0 else []
        raise UserError(problems[:_MAX_REPORTED] + tail)


# -- "path [frames] label" lists ----------------------------------------------------------------


def _split(line: str, separator: str) -> list[str]:
    if line.startswith('"'):
        return next(csv.reader([line], delimiter=separator))
    parts = line.rsplit(separator, 2)
    return [p.strip() for p in parts if p.strip()]


def _is_int(text: str) -> bool:
    return re.fullmatch(r"-?\d+", text) is not None


def _parses(lines: Sequence[tuple[int, str]], separator: str) -> bool:
    rows = [_split(line, separator) for _, line in lines]
    return all(len(row) >= 2 and _is_int(row[-1]) for row in rows)


def find_separator(lines: Sequence[tuple[int, str]], configured: str, path: str) -> str:
    """The configured separator if the first lines can be parsed with it, else one that works."""
    head = lines[:20]
    candidates = [configured] + [s for s in _SEPARATORS if s != configured]
    for separator in candidates:
        if _parses(head, separator) or (len(head) > 1 and _parses(head[1:], separator)):
            if separator != configured:
                logger.warning(
                    "%s is separated by %r, not by DATA.PATH_LABEL_SEPARATOR %r: using %r",
                    path,
                    separator,
                    configured,
                    separator,
                )
            return separator
    return configured


def read_path_list(path: str | Path, separator: str, prefix: str, key: str) -> list[Item]:
    """Items of ``path label`` or ``path frames label`` lines; paths may contain the separator."""
    lines = read_lines(path, key)
    separator = find_separator(lines, separator, str(path))
    rows = [(number, _split(line, separator)) for number, line in lines]
    if len(rows) > 1 and not _is_int(rows[0][1][-1]) and _is_int(rows[1][1][-1]):
        logger.info("%s: the first line is treated as a header", path)
        rows = rows[1:]
    # Three columns only if all lines have a number in the middle: a path may end with a number.
    has_counts = all(len(row) == 3 and _is_int(row[1]) for _, row in rows)
    items, problems = [], []
    for number, row in rows:
        if len(row) < 2 or not _is_int(row[-1]):
            problems.append(
                Problem(
                    f"cannot be read as path and label: {separator.join(row)!r}",
                    "a line is 'path label' or 'path frames label' (DATASET.md); "
                    "set DATA.PATH_LABEL_SEPARATOR",
                    f"{path}:{number}",
                )
            )
            continue
        name = row[0] if has_counts or len(row) == 2 else separator.join(row[:-1])
        frames = int(row[1]) if has_counts else 0
        items.append(Item(os.path.join(prefix, name), int(row[-1]), frames, number))
    raise_line_problems(path, problems)
    return items


def format_path_list(items: Sequence[Item], counted: bool) -> str:
    """Items as lines for :func:`read_path_list`; ``counted``: with numbers of frames."""
    return "".join(
        f"{_quoted(item.path)} {item.num_frames} {item.label}\n"
        if counted
        else f"{_quoted(item.path)} {item.label}\n"
        for item in items
    )


def _quoted(path: str) -> str:
    # Plain paths may contain spaces; quotes are needed if the last word looks like a frame count.
    return f'"{path}"' if path.rsplit(" ", 1)[-1].isdigit() or path.startswith('"') else path


def read_named_lists(files: Sequence[str], prefix: str = "") -> dict[str, ItemList]:
    """Lists in Kinetics format by the stems of their files (numbered if those are equal)."""
    by_name: dict[str, ItemList] = {}
    for file in files:
        stem = name = Path(file).stem
        while name in by_name:
            name = f"{stem}_{len(by_name)}"
        by_name[name] = ItemList(read_path_list(file, " ", prefix, "LIST"), str(file))
    return by_name


# -- one folder per class ------------------------------------------------------------------------


def find_videos(root: str | Path, key: str) -> list[str]:
    """Video files below a folder, as sorted paths relative to it; UserError if there are none."""
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"there is no folder {root}", f"check {key}", key)
    videos = sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
    )
    if not videos:
        raise UserError(f"{root} holds no videos ({' '.join(VIDEO_SUFFIXES)})", "", key)
    return videos


def stems_of(names: Sequence[str]) -> dict[str, str]:
    """File -> its path without the suffix; with the suffix where two files would coincide."""
    stems = Counter(str(Path(name).with_suffix("")) for name in names)
    plain = {name: str(Path(name).with_suffix("")) for name in names}
    return {name: stem if stems[stem] == 1 else name for name, stem in plain.items()}


def read_class_folders(root: str | Path, key: str) -> tuple[list[Item], list[str]]:
    """``root/<class>/<video>``: items and class names; classes in alphabetical order."""
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"there is no folder {root}", "it should hold one folder per class", key)
    classes = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    items = []
    for label, name in enumerate(classes):
        for path in sorted((root / name).iterdir()):
            if path.suffix.lower() in VIDEO_SUFFIXES or path.is_dir():
                items.append(Item(str(path), label))
    if not items:
        raise UserError(f"{root} holds no <class>/<video> files", "see DATASET.md", key)
    return items, classes


# -- official split files ------------------------------------------------------------------------


def read_ucf101(folder: Path, split: str, number: int, prefix: str) -> tuple[list[Item], list[str]]:
    """UCF101: ``classInd.txt`` and ``{train,test}list0N.txt`` (labels from 1, or by folder)."""
    key = "DATA.PATH_TO_DATA_DIR"
    names = [line.split(maxsplit=1)[1] for _, line in read_lines(folder / "classInd.txt", key)]
    labels = {name: label for label, name in enumerate(names)}
    file = folder / f"{'train' if split == 'train' else 'test'}list{number:02d}.txt"
    items, problems = [], []
    for line_number, line in read_lines(file, key):
        path = re.sub(r"\s+\d+$", "", line)
        class_name = path.split("/")[0]
        if class_name not in labels:
            problems.append(
                Problem(f"class {class_name!r} is not in classInd.txt", "", f"{file}:{line_number}")
            )
            continue
        items.append(Item(os.path.join(prefix, path), labels[class_name], 0, line_number))
    raise_line_problems(file, problems)
    return items, names


def read_hmdb51(folder: Path, split: str, number: int, prefix: str) -> tuple[list[Item], list[str]]:
    """HMDB51: ``<class>_test_splitN.txt`` with ``name 0|1|2`` (1: training, 2: test)."""
    suffix = f"_test_split{number}.txt"
    files = sorted(folder.glob(f"*{suffix}"))
    if not files:
        raise UserError(
            f"{folder} holds no *{suffix}",
            "unpack the official split files there",
            "DATA.PATH_TO_DATA_DIR",
        )
    names = [file.name[: -len(suffix)] for file in files]
    split_code = "1" if split == "train" else "2"
    items, problems = [], []
    for label, (name, file) in enumerate(zip(names, files)):
        for line_number, line in read_lines(file, "DATA.PATH_TO_DATA_DIR"):
            video, _, use = line.rpartition(" ")
            if use not in ("0", "1", "2") or not video:
                problems.append(Problem(f"not 'name 0|1|2': {line!r}", "", f"{file}:{line_number}"))
            elif use == split_code:
                path = os.path.join(prefix, name, video.strip())
                items.append(Item(path, label, 0, line_number))
    raise_line_problems(folder, problems)
    return items, names


def read_json(path: Path, key: str) -> object:
    """Content of a JSON file; UserError naming ``key`` if it does not exist or is malformed."""
    try:
        with path_manager.open(str(path), encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}", f"check {key}", key) from None
    except json.JSONDecodeError as error:
        raise UserError(f"is not valid JSON: {error}", "", str(path)) from error


def read_ssv2(folder: Path, split: str, _: int, prefix: str) -> tuple[list[Item], list[str]]:
    """Something-Something v2 json lists; frame folders ``prefix/id`` or videos ``prefix/id.webm``.

    PySlowFast's ``train.csv`` and ``val.csv`` (one line per frame) give frame counts if present.
    """
    key = "DATA.PATH_TO_DATA_DIR"
    labels = read_json(folder / "something-something-v2-labels.json", key)
    names = [name for name, _ in sorted(labels.items(), key=lambda pair: int(pair[1]))]
    part = "train" if split == "train" else "validation"
    file = folder / f"something-something-v2-{part}.json"
    counts = _frame_counts(folder / f"{'train' if split == 'train' else 'val'}.csv")
    items, problems = [], []
    for number, record in enumerate(read_json(file, key), 1):
        template = record["template"].replace("[", "").replace("]", "")
        if template not in labels:
            problems.append(
                Problem(f"template {template!r} has no label", "", f"{file} ({number})")
            )
            continue
        path = _folder_or_video(os.path.join(prefix, record["id"]))
        items.append(Item(path, int(labels[template]), counts.get(record["id"], 0), number))
    raise_line_problems(file, problems)
    return items, names


def _frame_counts(file: Path) -> dict[str, int]:
    if not file.exists():
        return {}
    counts: dict[str, int] = {}
    for _, line in read_lines(file, "DATA.PATH_TO_DATA_DIR")[1:]:
        video = line.split()[0]
        counts[video] = counts.get(video, 0) + 1
    return counts


def _folder_or_video(stem: str) -> str:
    if os.path.isdir(stem):
        return stem
    present = (stem + suffix for suffix in (".webm", ".mp4") if os.path.exists(stem + suffix))
    return next(present, stem)


def read_categories(folder: Path) -> list[str]:
    """Class names of TRN's lists, from ``category.txt``; empty without that file."""
    file = folder / "category.txt"
    if not file.is_file():
        return []
    return [line for _, line in read_lines(file, "DATA.PATH_TO_DATA_DIR")]


def read_jester(folder: Path, split: str, _: int, prefix: str) -> tuple[list[Item], list[str]]:
    """Jester: ``jester-v1-labels.csv`` and ``jester-v1-{train,validation}.csv``, ``id;label``."""
    key = "DATA.PATH_TO_DATA_DIR"
    names = [line for _, line in read_lines(folder / "jester-v1-labels.csv", key)]
    labels = {name: label for label, name in enumerate(names)}
    file = folder / f"jester-v1-{'train' if split == 'train' else 'validation'}.csv"
    items, problems = [], []
    for number, line in read_lines(file, key):
        video, _, name = line.partition(";")
        if name not in labels:
            problems.append(
                Problem(f"{name!r} is not in jester-v1-labels.csv", "", f"{file}:{number}")
            )
            continue
        items.append(Item(_folder_or_video(os.path.join(prefix, video)), labels[name], 0, number))
    raise_line_problems(file, problems)
    return items, names
