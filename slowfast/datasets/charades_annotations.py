"""Lists from the official annotations of Charades (arXiv 1604.01753) and its folders of frames.

A row of ``Charades_v1_train.csv`` has the id of a video and its ``actions``,
``c092 11.90 21.20;c147 0.00 12.60``: class, first and last second. The published frames have 24
images a second; the frame at second s has the labels of the actions with ``start < s < end``.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from slowfast.datasets import lists
from slowfast.datasets.folder_lists import SplitLists
from slowfast.datasets.multi_label import MultiLabelItem, Span
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.text import shorten
from slowfast.video.source import IMAGE_SUFFIXES

FPS = 24
_FILES = {"train": "Charades_v1_train.csv", "val": "Charades_v1_test.csv"}
_CLASSES = "Charades_v1_classes.txt"
_ACTION = re.compile(r"(c[0-9]{3}) ([0-9]+(?:\.[0-9]+)?) ([0-9]+(?:\.[0-9]+)?)")


class Action(NamedTuple):
    """A class between two moments of a video, in seconds."""

    label: int
    start: float
    end: float


def from_charades(annotations: str | Path, frames: str | Path) -> SplitLists:
    """Lists of the folder of the official files; ``frames`` holds a folder of images a video.

    Test and validation are both the official test part. UserError if a file is missing or wrong.
    """
    folder = Path(annotations)
    codes, names = _read_classes(folder / _CLASSES)
    result = SplitLists({}, names, dataset="charades", multi_label=True)
    for part, file in _FILES.items():
        result.splits[part] = []
        for video, actions in _read_actions(folder / file, codes):
            path = Path(frames, video)
            images = _images(path)
            if images:
                item = MultiLabelItem(
                    str(path),
                    num_frames=len(images),
                    spans=frame_spans(actions, len(images)),
                    frames="\n".join(images),
                )
                result.splits[part].append(item)
            else:
                result.missing.append(f"{part} {video}")
    result.fill_empty_splits()
    return result


def frame_spans(actions: Sequence[Action], num_frames: int) -> tuple[Span, ...]:
    """The labels of the frames of a video: first frame of each span, and the labels from it on."""
    spans: list[Span] = []
    for frame in range(num_frames):
        second = frame / FPS
        labels = tuple(sorted({a.label for a in actions if a.start < second < a.end}))
        if not spans or spans[-1][1] != labels:
            spans.append((frame, labels))
    return tuple(spans)


def _images(folder: Path) -> list[str]:
    """Names of the images in a folder, in order; empty if there is none."""
    if not folder.is_dir():
        return []
    return sorted(name for name in os.listdir(folder) if name.lower().endswith(IMAGE_SUFFIXES))


def _read_classes(file: Path) -> tuple[dict[str, int], list[str]]:
    """``c000 Holding some clothes`` -> (code -> label, names in label order)."""
    rows = [line.split(maxsplit=1) for _, line in lists.read_lines(file, "--annotations")]
    wrong = [row for row in rows if len(row) != 2 or not re.fullmatch(r"c[0-9]{3}", row[0])]
    if wrong:
        raise UserError(
            f"{shorten(' '.join(wrong[0]))!r} is no class", "c000 Holding some clothes", str(file)
        )
    return {code: label for label, (code, _) in enumerate(rows)}, [name for _, name in rows]


def _read_actions(file: Path, codes: dict[str, int]) -> Iterator[tuple[str, list[Action]]]:
    """(id, actions) of every video of an official file."""
    text = "\n".join(line for _, line in lists.read_lines(file, "--annotations"))
    reader = csv.DictReader(io.StringIO(text))
    missing = {"id", "actions"} - set(reader.fieldnames or ())
    if missing:
        raise UserError(
            f"has no column {', '.join(sorted(missing))}",
            f"give the official {file.name}",
            str(file),
        )
    problems, found = [], []
    for row in reader:
        try:
            actions = [_parse(text, codes) for text in (row["actions"] or "").split(";") if text]
            found.append((row["id"], actions))
        except ValueError as error:
            remedy = "an action is a class and two seconds: c092 11.90 21.20"
            problems.append(Problem(str(error), remedy, f"{file}:{reader.line_num}"))
    lists.raise_line_problems(file, problems)
    yield from found


def _parse(text: str, codes: dict[str, int]) -> Action:
    """``c092 11.90 21.20``. ValueError."""
    match = _ACTION.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{shorten(text)!r} is no action")
    if match[1] not in codes:
        raise ValueError(f"{_CLASSES} has no class {match[1]}")
    return Action(codes[match[1]], float(match[2]), float(match[3]))
