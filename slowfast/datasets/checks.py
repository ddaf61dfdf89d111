"""Checks over any list, made before training: what cannot work is refused, the rest is said."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence

from slowfast.datasets.lists import Item, ItemList
from slowfast.utils.errors import Problem
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)

_SHOWN = 5
_FEW = 10  # a test list of fewer videos may well hold one class


def check_list(found: ItemList, split: str, classes: int, single_label: bool) -> list[Problem]:
    """Everything that is wrong with the list of ``split`` for ``classes`` classes."""
    problems = check_labels(found.items, classes, found.source)
    problems += check_class_names(found.class_names, classes, found.source)
    if not single_label:
        problems += check_variety(found.items, split, classes, found.source)
    problems += check_paths(found.items, found.source)
    if split == "train" and not problems:
        warn_absent_labels(found, classes)
    return problems


def check_labels(items: Iterable[Item], classes: int, source: str) -> list[Problem]:
    """Labels outside ``[0, classes)``, the first few of them."""
    wrong = [item for item in items if not 0 <= item.label < classes]
    problems = [
        Problem(
            f"label {item.label} is outside 0..{classes - 1}",
            f"MODEL.NUM_CLASSES is {classes}",
            f"{source}:{item.line}",
        )
        for item in wrong[:_SHOWN]
    ]
    if len(wrong) > _SHOWN:
        problems.append(Problem(f"and {len(wrong) - _SHOWN} more labels of {source}"))
    return problems


def check_class_names(names: Sequence[str], classes: int, source: str) -> list[Problem]:
    """Another number of class names than of classes, or the same name twice."""
    problems = []
    if names and len(names) != classes:
        problems.append(
            Problem(
                f"is {classes}, but {source} has {len(names)} class names",
                f"set MODEL.NUM_CLASSES {len(names)}",
                "MODEL.NUM_CLASSES",
            )
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        shown = ", ".join(map(repr, twice[:_SHOWN]))
        problems.append(
            Problem(f"class names of {source} occur twice: {shown}", "", "DATA.CLASS_NAMES_PATH")
        )
    return problems


def check_variety(items: Sequence[Item], split: str, classes: int, source: str) -> list[Problem]:
    """A list whose videos all have one label: nothing to learn, or a list without labels."""
    if classes < 2 or len({item.label for item in items}) != 1:
        return []
    if len(items) < (2 if split == "train" else _FEW):
        return []
    return [
        Problem(
            f"all {len(items)} videos of {source} have label {items[0].label}",
            "give the labels (test lists of some sets are published without), or set "
            "DATA.ALLOW_SINGLE_LABEL True",
            "DATA.ALLOW_SINGLE_LABEL",
        )
    ]


def check_paths(items: Sequence[Item], source: str, sampled: int = 20) -> list[Problem]:
    """A problem if none of some evenly sampled paths exists; a warning if some do not."""
    step = max(len(items) // sampled, 1)
    sample = items[::step][:sampled]
    missing = [item for item in sample if not os.path.exists(item.path)]
    if missing and len(missing) == len(sample):
        return [
            Problem(
                f"none of {len(sample)} sampled videos of {source} exists, "
                f"e.g. {missing[0].path} (line {missing[0].line})",
                "set DATA.PATH_PREFIX to the folder that the paths of the list begin in",
                "DATA.PATH_PREFIX",
            )
        ]
    for item in missing[:_SHOWN]:
        logger.warning("%s:%d: there is no %s", source, item.line, item.path)
    return []


def warn_absent_labels(found: ItemList, classes: int) -> None:
    """Say which classes have no video to learn from."""
    present = {item.label for item in found.items}
    absent = [label for label in range(classes) if label not in present]
    if absent:
        names = found.class_names
        shown = ", ".join(f"{a} ({names[a]})" if names else str(a) for a in absent[:_SHOWN])
        more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
        logger.warning(
            "%d of %d classes have no video in %s: %s%s",
            len(absent),
            classes,
            found.source,
            shown,
            more,
        )


def shared_videos(one: ItemList, other: ItemList) -> list[str]:
    """Paths that are in both lists."""
    known = {os.path.normpath(item.path) for item in one.items}
    return [i.path for i in other.items if os.path.normpath(i.path) in known]


def warn_overlap(training: ItemList, held_out: ItemList) -> None:
    """Say that videos of training are evaluated, too."""
    shared = shared_videos(training, held_out)
    if shared:
        logger.warning(
            "%d of %d videos of %s are also trained on, e.g. %s: its figures say little about "
            "other videos",
            len(shared),
            len(held_out.items),
            held_out.source,
            shared[0],
        )
