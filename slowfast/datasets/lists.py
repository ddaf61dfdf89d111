"""Reading of lists: every published format becomes a list of :class:`Item`.

A line that cannot be parsed is an error that names file and line.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from slowfast.datasets.checks import check_addresses
from slowfast.datasets.fields import (
    cut_last,
    is_count,
    is_header,
    is_whole,
    quote,
    split_fields,
    to_int,
)
from slowfast.datasets.items import Item, ItemList
from slowfast.utils.addresses import is_address, join
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.logging import get_logger
from slowfast.utils.paths import Tree
from slowfast.utils.text import name_problem, read_text, shorten
from slowfast.video.source import IMAGE_SUFFIXES

logger = get_logger(__name__)

VIDEO_SUFFIXES = (
    *(".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv"),
    *(".ts", ".mts", ".m2ts", ".vob", ".asf", ".f4v", ".3gp", ".gif"),
)
_LOOKED_AT = 32  # files of a folder
_SEPARATORS = (" ", ",", "\t", ";")
_MAX_REPORTED = 5  # problems per list
_LINE_END = re.compile(r"\r\n|\n|\r")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # tabs separate columns


def read_lines(path: str | Path, key: str, remedy: str = "") -> list[tuple[int, str]]:
    """(line number, stripped line) of the non-empty lines; UserError naming ``key`` if the file
    does not exist, is empty, or is no UTF-8 text."""
    text = _read(path, key, remedy)
    found = _CONTROL.search(text)
    if found:
        line = 1 + len(_LINE_END.findall(text, 0, found.start()))
        raise UserError(f"holds the control character {found[0]!r}", "remove it", f"{path}:{line}")
    lines = [(number, line.strip()) for number, line in enumerate(_LINE_END.split(text), 1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise UserError(f"{path} is empty", "a list needs one line per video", key)
    return lines


def _read(path: str | Path, key: str, remedy: str = "") -> str:
    try:
        return read_text(path)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"there is no file {path}", remedy or f"check {key}", key) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "", key) from None
    except ValueError as error:
        raise UserError(f"{path} {error}", "lists are UTF-8 text", key) from None


def raise_line_problems(path: str | Path, problems: list[Problem]) -> None:
    """UserError with the first few problems of a list, if there are any."""
    if problems:
        more = len(problems) - _MAX_REPORTED
        tail = [Problem(f"and {more} more lines of {path}")] if more > 0 else []
        raise UserError(problems[:_MAX_REPORTED] + tail)


# -- "path [frames] label" lists ----------------------------------------------------------------


class _Row(NamedTuple):
    """A line: ``path label``, and the same line as ``short count label`` (empty: it cannot be)."""

    path: str
    label: str
    short: str = ""
    count: str = ""


class LabelForm(NamedTuple):
    """How the last column of a list is read: whether a text is one, the item that it makes of
    (path, text, number of frames, line; ValueError, as what follows the line), and what cannot
    separate columns because it stands inside of it."""

    matches: Callable[[str], bool]
    item: Callable[[str, str, int, int], Item]
    inner: str = ""


ONE_LABEL = LabelForm(
    is_whole,
    lambda path, text, num_frames, line: Item(path, to_int(text, "label"), num_frames, line),
)


def _split(line: str, separator: str, form: LabelForm) -> _Row | None:
    """A line in its columns; None if it has none. ValueError, as what follows the line."""
    if not line.startswith('"'):
        path, label = cut_last(line, separator)
        short, count = cut_last(path, separator)
        return _Row(path, label, short, count) if path and form.matches(label) else None
    *fields, last = split_fields(line, separator)
    fields = [field for field in fields if field] + ([last] if last or form.inner else [])
    if len(fields) not in (2, 3) or not form.matches(fields[-1]):
        return None
    three = len(fields) == 3
    return _Row("" if three else fields[0], fields[-1], *(fields[:2] if three else ()))


def _parses(lines: Sequence[tuple[int, str]], separator: str, form: LabelForm) -> bool:
    try:
        return all(_split(line, separator, form) for _, line in lines)
    except ValueError:
        return False


def find_separator(
    lines: Sequence[tuple[int, str]], configured: str, path: str, form: LabelForm = ONE_LABEL
) -> str:
    """The configured separator if the first lines can be parsed with it, else one that works."""
    candidates = [configured] + [s for s in _SEPARATORS if s != configured]
    candidates = [separator for separator in candidates if separator not in ("", form.inner)]
    for separator in candidates:
        if _parses(lines[:20], separator, form):
            if separator != configured:
                logger.warning(
                    "%s is separated by %r, not by DATA.PATH_LABEL_SEPARATOR %r: using %r",
                    path,
                    separator,
                    configured,
                    separator,
                )
            return separator
    return candidates[0]


def read_path_list(
    path: str | Path, separator: str, prefix: str, key: str, form: LabelForm = ONE_LABEL
) -> list[Item]:
    """Items of ``path label`` or ``path frames label`` lines; paths may contain the separator.
    ``form``: how a label is read.

    A first line of column names is left out, with a warning that shows it.
    """
    lines = read_lines(path, key)
    if is_header(lines[0][1]):
        logger.warning("%s: the first line is left out as a header: %s", path, lines[0][1])
        lines = lines[1:]
    if not lines:
        raise UserError(f"{path} holds no line but a header", "", key)
    separator = find_separator(lines, separator, str(path), form)
    rows, problems = [], []
    for number, line in lines:
        try:
            row = _split(line, separator, form)
        except ValueError as error:
            problems.append(_line_problem(f"{error}: {shorten(line)!r}", path, number))
            continue
        if row is None:
            what = f"cannot be read as path and label: {shorten(line)!r}"
            problems.append(_line_problem(what, path, number))
        else:
            rows.append((number, row))
    # Three columns only if all lines have a number in the middle: a path may end with a number.
    counted = all(row.short and is_count(row.count) for _, row in rows)
    items = []
    for number, row in rows:
        name = row.short if counted else row.path
        what = name_problem(name) if name else "has three columns, other lines have two"
        try:
            frames = to_int(row.count, "count") if counted else 0
            item = form.item(join(prefix, name), row.label, frames, number)
        except ValueError as error:
            what = what or str(error)
        if what:
            problems.append(_line_problem(what, path, number))
        else:
            items.append(item)
    raise_line_problems(path, problems)
    return items


def _line_problem(what: str, path: str | Path, number: int) -> Problem:
    remedy = "a line is 'path label' or 'path frames label' (DATASET.md); "
    return Problem(what, remedy + "set DATA.PATH_LABEL_SEPARATOR", f"{path}:{number}")


def format_path_list(items: Sequence[Item], counted: bool) -> str:
    """Items as lines for :func:`read_path_list`; ``counted``: with numbers of frames.

    UserError if a path cannot stand in a line.
    """
    check_names((item.path for item in items), "")
    return "".join(
        f"{quote(item.path)} {item.num_frames} {item.label}\n"
        if counted
        else f"{quote(item.path)} {item.label}\n"
        for item in items
    )


def check_names(names: Iterable[str], key: str) -> None:
    """UserError that shows the first few names which cannot stand in a list of lines."""
    wrong = [(name, what) for name in names if (what := name_problem(name))]
    if wrong:
        shown = ", ".join(f"{name!a} {what}" for name, what in wrong[:_MAX_REPORTED])
        raise UserError(f"{len(wrong)} names cannot stand in a list: {shown}", "rename them", key)


def read_named_lists(files: Sequence[str], prefix: str = "") -> dict[str, ItemList]:
    """Lists in Kinetics format by the stems of their files (numbered if those are equal)."""
    by_name: dict[str, ItemList] = {}
    for file in files:
        stem = name = Path(file).stem
        while name in by_name:
            name = f"{stem}_{len(by_name)}"
        by_name[name] = ItemList(read_path_list(file, " ", prefix, "LIST"), str(file))
        problems = check_addresses(by_name[name], prefix, ())
        if problems:
            raise UserError(problems)
    return by_name


# -- trees of videos -----------------------------------------------------------------------------


def find_videos(root: str | Path, key: str, follow_links: bool = False) -> list[str]:
    """Video files below a folder, as sorted paths relative to it.

    Links that lead out of the folder are left out, with a warning, unless ``follow_links``.
    UserError if there are no videos, or their names cannot stand in a list.
    """
    tree = Tree(root, follow_links)
    if not tree.root.is_dir():
        raise UserError(f"there is no folder {root}", f"check {key}", key)
    videos = [name for name in tree.files() if Path(name).suffix.lower() in VIDEO_SUFFIXES]
    tree.warn()
    if not videos:
        raise UserError(f"{root} holds no videos ({' '.join(VIDEO_SUFFIXES)})", "", key)
    check_names(videos, key)
    return videos


def holds_images(folder: str | Path) -> bool:
    """Whether a folder is one of frames: it holds images and no videos, as far as its first files
    show (a data set has thousands of such folders with hundreds of files)."""
    with os.scandir(folder) as entries:
        first = itertools.islice((e for e in entries if e.name[0] != "."), _LOOKED_AT)
        suffixes = {Path(entry.name).suffix.lower() for entry in first}
    return not suffixes.isdisjoint(IMAGE_SUFFIXES) and suffixes.isdisjoint(VIDEO_SUFFIXES)


def stems_of(names: Sequence[str]) -> dict[str, str]:
    """File -> its path without the suffix; with the suffix where it would be that of another file
    or of a folder with files."""
    stems = Counter(str(Path(name).with_suffix("")) for name in names)
    folders = {str(folder) for name in names for folder in Path(name).parents}
    plain = {name: str(Path(name).with_suffix("")) for name in names}
    return {
        name: stem if stems[stem] == 1 and stem not in folders else name
        for name, stem in plain.items()
    }


def check_class_names(names: Iterable[str], key: str) -> None:
    """UserError if names of classes cannot stand in a file with one per line."""
    names = list(names)
    check_names(names, key)
    wrong = [name for name in names if name != name.strip() or name.startswith("\ufeff")]
    if wrong:
        problem = f"class names begin or end with a space: {', '.join(map(repr, wrong[:5]))}"
        raise UserError(problem, "rename them", key)


# -- official split files ------------------------------------------------------------------------


def read_ucf101(folder: Path, split: str, number: int, prefix: str) -> tuple[list[Item], list[str]]:
    """UCF101: ``classInd.txt`` and ``{train,test}list0N.txt`` (labels from 1, or by folder)."""
    key = "DATA.PATH_TO_DATA_DIR"
    index = folder / "classInd.txt"
    pairs = [(number, line.split(maxsplit=1)) for number, line in read_lines(index, key)]
    raise_line_problems(
        index,
        [Problem("is not 'number name'", "", f"{index}:{n}") for n, pair in pairs if len(pair) < 2],
    )
    names = [name for _, (_, name) in pairs]
    labels = {name: label for label, name in enumerate(names)}
    file = folder / f"{'train' if split == 'train' else 'test'}list{number:02d}.txt"
    items, problems = [], []
    for line_number, line in read_lines(file, key):
        head, last = cut_last(line, " ")
        path = head if head and is_count(last) else line
        class_name = path.split("/")[0]
        if class_name not in labels:
            problems.append(
                Problem(
                    f"class {shorten(class_name)!r} is not in classInd.txt",
                    "",
                    f"{file}:{line_number}",
                )
            )
            continue
        items.append(Item(join(prefix, path), labels[class_name], 0, line_number))
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
                problems.append(
                    Problem(f"not 'name 0|1|2': {shorten(line)!r}", "", f"{file}:{line_number}")
                )
            elif use == split_code:
                path = join(prefix, f"{name}/{video.strip()}")
                items.append(Item(path, label, 0, line_number))
    raise_line_problems(folder, problems)
    return items, names


def read_json(path: str | Path, key: str) -> Any:
    """Content of a JSON file; UserError naming ``key`` if it does not exist or is malformed, which
    a key that stands twice is, too."""
    text = _read(path, key)
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise UserError("is not valid JSON: it is nested too deep", "", str(path)) from None
    except ValueError as error:
        raise UserError(f"is not valid JSON: {error}", "", str(path)) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(name for name, count in Counter(k for k, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {shorten(twice)!r} stands twice")
    return content


def read_ssv2(folder: Path, split: str, _: int, prefix: str) -> tuple[list[Item], list[str]]:
    """Something-Something v2 json lists; frame folders ``prefix/id`` or videos ``prefix/id.webm``.

    PySlowFast's ``train.csv`` and ``val.csv`` (one line per frame) give frame counts if present.
    """
    labels = _read_ssv2_labels(folder / "something-something-v2-labels.json")
    part = "train" if split == "train" else "validation"
    file = folder / f"something-something-v2-{part}.json"
    counts = _frame_counts(folder / f"{'train' if split == 'train' else 'val'}.csv")
    records = read_json(file, "DATA.PATH_TO_DATA_DIR")
    if not isinstance(records, list):
        raise UserError("is not a list of videos", "", str(file))
    items, problems = [], []
    for number, record in enumerate(records, 1):
        record = record if isinstance(record, dict) else {}
        video, template = record.get("id"), record.get("template")
        if not isinstance(video, str) or not isinstance(template, str) or name_problem(video):
            problems.append(Problem("has no id and template", "", f"{file} ({number})"))
            continue
        template = template.replace("[", "").replace("]", "")
        if template not in labels:
            problems.append(
                Problem(f"template {shorten(template)!r} has no label", "", f"{file} ({number})")
            )
            continue
        path = _folder_or_video(join(prefix, video), file)
        items.append(Item(path, labels[template], counts.get(video, 0), number))
    raise_line_problems(file, problems)
    return items, sorted(labels, key=labels.__getitem__)


def _read_ssv2_labels(file: Path) -> dict[str, int]:
    labels = read_json(file, "DATA.PATH_TO_DATA_DIR")
    texts = labels if isinstance(labels, dict) else {}
    if not texts or not all(
        is_count(str(label)) and len(str(label)) < 9 for label in texts.values()
    ):
        raise UserError("is not a map of templates to labels", "", str(file))
    check_class_names(texts, str(file))
    return {name: int(label) for name, label in texts.items()}


def _frame_counts(file: Path) -> dict[str, int]:
    if not file.exists():
        return {}
    counts: dict[str, int] = {}
    for _, line in read_lines(file, "DATA.PATH_TO_DATA_DIR")[1:]:
        video = line.split()[0]
        counts[video] = counts.get(video, 0) + 1
    return counts


def _folder_or_video(stem: str, file: Path) -> str:
    if is_address(stem):
        raise UserError(
            f"{file} names no files, and addresses are not searched",
            "make a list with the full names of the videos (tools/make_lists.py, kinetics)",
            "DATA.PATH_PREFIX",
        )
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
        if not video or name not in labels:
            problems.append(
                Problem(f"{shorten(name)!r} is not in jester-v1-labels.csv", "", f"{file}:{number}")
            )
            continue
        items.append(Item(_folder_or_video(join(prefix, video), file), labels[name], 0, number))
    raise_line_problems(file, problems)
    return items, names
