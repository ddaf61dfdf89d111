"""Videos with several labels: lists of videos, and lists of frames with labels of their own.

``path 3,7,12`` is a line of a list of videos. Charades' lists have a row a frame (see
:func:`read_frame_list`); neighbouring frames with the same labels are kept as one span.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from slowfast.datasets.fields import quote, to_int
from slowfast.datasets.items import Item
from slowfast.datasets.lists import LabelForm, check_names, raise_line_problems
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.text import name_problem, shorten

_LABELS = re.compile(r'"?(?:[0-9]+(?:, *[0-9]+)*)?"?')
# original_vido_id is the spelling of the published lists.
_COLUMNS = (("original_vido_id", "original_video_id"), "video_id", "frame_id", "path", "labels")
HEADER = "original_vido_id video_id frame_id path labels"

Span = tuple[int, tuple[int, ...]]  # first frame, the labels from it on


@dataclass(frozen=True, slots=True)
class MultiLabelItem(Item):
    """A video with any number of labels; its ``label`` is -1.

    ``spans``: the labels of its frames, from the first span on, which begins at frame 0;
    ``frames``: names of its images in the folder ``path``, one a line (empty: DATA.IMAGE_TEMPLATE,
    or a video file).
    """

    label: int = -1
    spans: tuple[Span, ...] = ((0, ()),)
    frames: str = ""

    @property
    def labels(self) -> tuple[int, ...]:
        """The labels of the whole video, in order."""
        return _union(labels for _, labels in self.spans)

    def relabelled(self, labels: Sequence[int | None]) -> MultiLabelItem | None:
        """See :meth:`Item.relabelled`; a video without labels stays."""
        spans = tuple(
            (start, tuple(sorted(new for old in olds if (new := labels[old]) is not None)))
            for start, olds in self.spans
        )
        item = replace(self, spans=spans)
        return item if item.labels or not self.labels else None

    @property
    def label_text(self) -> str:
        """All labels, as a text that identifies them."""
        return ";".join(f"{start}:{_join(labels)}" for start, labels in self.spans)

    @property
    def image_names(self) -> list[str]:
        """Names of the images where the list gives them."""
        return self.frames.split("\n") if self.frames else []

    def labels_between(self, first: int, last: int) -> tuple[int, ...]:
        """The labels of the frames from ``first`` to ``last``, in order."""
        ends = [start for start, _ in self.spans[1:]] + [last + 1]
        return _union(
            labels
            for (start, labels), end in zip(self.spans, ends)
            if start <= last and first < end
        )


def _union(parts: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sorted(set().union(*parts)))


def _join(labels: Iterable[int]) -> str:
    return ",".join(map(str, labels))


def binary_vector(labels: Iterable[int], classes: int) -> torch.Tensor:
    """Labels -> float ``classes``: 1 for each of them, else 0."""
    vector = torch.zeros(classes)
    vector[list(labels)] = 1.0
    return vector


# -- lists of videos -----------------------------------------------------------------------------


def parse_labels(text: str) -> tuple[int, ...]:
    """``3,7,12``, in quotes or not, as numbers in order, each once; empty quotes: none.

    ValueError, as what follows the line.
    """
    if not _LABELS.fullmatch(text):
        raise ValueError(f"has no numbers with commas between them: {shorten(text)!r}")
    numbers = [word.strip() for word in text.strip('"').split(",") if word.strip()]
    return tuple(sorted({to_int(number, "label") for number in numbers}))


def _item(path: str, text: str, num_frames: int, line: int) -> MultiLabelItem:
    spans = ((0, parse_labels(text)),)
    return MultiLabelItem(path, -1, num_frames, line, spans=spans)


# A comma separates labels, so it cannot separate columns.
MULTI_LABEL_FORM = LabelForm(lambda text: _LABELS.fullmatch(text) is not None, _item, inner=",")


def format_items(items: Sequence[Item], counted: bool) -> str:
    """Items with several labels as a list: of frames where they have names, else of videos."""
    check_names((item.path for item in items), "")
    if any(item.image_names for item in items):
        return HEADER + "\n" + "".join(map(_frame_rows, items))
    return "".join(
        f"{quote(item.path)} {f'{item.num_frames} ' if counted else ''}"
        f"{_join(item.labels) or _NONE}\n"
        for item in items
    )


_NONE = '""'


def _frame_rows(item: MultiLabelItem) -> str:
    name, spans = os.path.basename(item.path), list(item.spans)
    rows = []
    for number, image in enumerate(item.image_names):
        while len(spans) > 1 and spans[1][0] <= number:
            spans.pop(0)
        rows.append(f'{name} 0 {number} {item.path}/{image} "{_join(spans[0][1])}"\n')
    return "".join(rows)


# -- lists of frames -----------------------------------------------------------------------------


@dataclass
class _Video:
    """The rows of one video so far."""

    folder: str
    line: int
    images: list[str] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    def add(self, image: str, labels: tuple[int, ...]) -> None:
        if not self.spans or self.spans[-1][1] != labels:
            self.spans.append((len(self.images), labels))
        self.images.append(image)

    def item(self) -> MultiLabelItem:
        count, names = len(self.images), "\n".join(self.images)
        spans = tuple(self.spans)
        return MultiLabelItem(self.folder, -1, count, self.line, spans=spans, frames=names)


def read_frame_list(path: str | Path, prefix: str, key: str) -> list[MultiLabelItem]:
    """Videos of a list with a row a frame: ``original_vido_id video_id frame_id path labels``,
    labels in quotes with commas between them. The rows of a video stand in the order of its frames.

    UserError naming ``key`` if the file does not exist, or file and line of rows that are wrong.
    """
    videos: dict[str, _Video] = {}
    problems: list[Problem] = []
    known: dict[str, tuple[int, ...]] = {}  # texts of labels, of which there are few
    try:
        with open(path, encoding="utf-8-sig") as file:
            _check_header(file.readline(), path)
            for number, line in enumerate(file, 2):
                fields = line.split()
                if fields:
                    what = _add_row(videos, fields, prefix, number, known)
                    if what:
                        remedy = f'a row is {HEADER!r}, the labels as "3,7,12" (DATASET.md)'
                        problems.append(Problem(what, remedy, f"{path}:{number}"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"there is no file {path}", f"check {key}", key) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "", key) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}", "", key) from None
    raise_line_problems(path, problems)
    if not videos:
        raise UserError(f"{path} holds no row but its header", "a row a frame", key)
    return [video.item() for video in videos.values()]


def _check_header(line: str, path: str | Path) -> None:
    names = line.replace(",", " ").split()
    known = len(names) == len(_COLUMNS) and all(
        name in column for name, column in zip(names, _COLUMNS)
    )
    if not known:
        raise UserError(
            f"does not begin with the columns {HEADER!r}, but with {shorten(line.strip())!r}",
            "it is a list of frames; lists of videos with several labels are read by kinetics "
            "(DATASET.md)",
            f"{path}:1",
        )


def _add_row(
    videos: dict[str, _Video],
    fields: list[str],
    prefix: str,
    number: int,
    known: dict[str, tuple[int, ...]],
) -> str:
    """Add a row to its video; what is wrong with it, empty if nothing."""
    if len(fields) != len(_COLUMNS):
        return f"has {len(fields)} columns: {shorten(' '.join(fields))!r}"
    name, _, _, path, text = fields
    if text not in known:
        try:
            known[text] = parse_labels(text)
        except ValueError as error:
            return str(error)
    folder, image = os.path.split(os.path.join(prefix, path))
    video = videos.get(name)
    if video is None:
        what = name_problem(folder) if folder else ""
        if what:
            return what
        video = videos[name] = _Video(folder, number)
    if folder != video.folder:
        return f"frames of {shorten(name)!r} lie in {shorten(folder)} and {shorten(video.folder)}"
    if not image or not image.isprintable():
        return f"has no name of an image: {shorten(path)!r}"
    video.add(image, known[text])
    return ""
