"""Checks of lists before training: hard errors raise, suspicious lists are warned about."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Sequence

from slowfast.datasets.items import Item, ItemList, locate
from slowfast.utils.addresses import is_address, is_below, problem_of
from slowfast.utils.errors import Problem
from slowfast.utils.logging import get_logger
from slowfast.utils.remote import RemoteError, exists

logger = get_logger(__name__)

_MAX_REPORTED = 5
_MIN_VARIED = 10  # a shorter validation or test list may contain a single class


def check_list(
    item_list: ItemList, split: str, classes: int, single_label: bool, places: bool = True
) -> list[Problem]:
    """All problems of the list of ``split`` for ``classes`` classes. ``places``: also whether
    videos are where it says."""
    problems = check_labels(item_list.items, classes, item_list.source)
    problems += check_class_names(item_list.class_names, classes, item_list.source)
    if not single_label:
        problems += check_variety(item_list.items, split, classes, item_list.source)
    if places:
        problems += check_paths(item_list.items, item_list.source)
    if split == "train" and not problems:
        warn_absent_labels(item_list, classes)
    return problems


def check_labels(items: Iterable[Item], classes: int, source: str) -> list[Problem]:
    """Problems for the first few labels outside ``[0, classes)``."""
    wrong = [(i, label) for i in items for label in i.labels if not 0 <= label < classes]
    problems = [
        Problem(
            f"label {label} is outside 0..{classes - 1}",
            f"MODEL.NUM_CLASSES is {classes}",
            f"{source}:{item.line}" if item.line else item.path,
        )
        for item, label in wrong[:_MAX_REPORTED]
    ]
    if len(wrong) > _MAX_REPORTED:
        problems.append(Problem(f"and {len(wrong) - _MAX_REPORTED} more labels of {source}"))
    return problems


def check_class_names(names: Sequence[str], classes: int, source: str) -> list[Problem]:
    """Problems if the number of class names is not ``classes``, or a name occurs twice."""
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
        shown = ", ".join(map(repr, twice[:_MAX_REPORTED]))
        problems.append(
            Problem(f"class names of {source} occur twice: {shown}", "", "DATA.CLASS_NAMES_PATH")
        )
    return problems


def check_variety(items: Sequence[Item], split: str, classes: int, source: str) -> list[Problem]:
    """A problem if all videos have the same label: the list may have been published without
    labels."""
    if classes < 2 or len({item.label_text for item in items}) != 1:
        return []
    if len(items) < (2 if split == "train" else _MIN_VARIED):
        return []
    return [
        Problem(
            f"all {len(items)} videos of {source} have label {items[0].label_text}",
            "add the labels (test lists of some sets are published without them), or set "
            "DATA.ALLOW_SINGLE_LABEL True",
            "DATA.ALLOW_SINGLE_LABEL",
        )
    ]


def check_addresses(item_list: ItemList, prefix: str, permitted: Sequence[str]) -> list[Problem]:
    """Problems for the first few videos of places that the configuration does not name: a list may
    come from somebody else.

    A video at an address lies below ``prefix`` (DATA.PATH_PREFIX) or one of ``permitted``
    (DATA.ADDRESSES); where the prefix is an address, a list names no files of this machine. A
    message never shows an address that may hold a credential.
    """
    places = (prefix, *permitted)
    found = (
        (item, what)
        for item in item_list.items
        if is_address(item.place) or is_address(prefix)
        if (what := _problem_of_place(item.place, places))
    )
    return [
        Problem(
            what,
            "DATA.ADDRESSES names the places that lists may lead to, such as s3://bucket/videos",
            f"{item_list.source}:{item.line}" if item.line else "DATA.ADDRESSES",
        )
        for item, what in itertools.islice(found, _MAX_REPORTED)
    ]


def _problem_of_place(path: str, places: Sequence[str]) -> str:
    if not is_address(path):
        return f"{path} is a file of this machine, but DATA.PATH_PREFIX is an address"
    problem = problem_of(path)
    if problem:
        return f"the address {problem}"
    if not is_below(path, places):
        return f"{path} is not below DATA.PATH_PREFIX or DATA.ADDRESSES"
    return ""


def check_paths(items: Sequence[Item], source: str, sampled: int = 20) -> list[Problem]:
    """A problem if none of some evenly sampled paths exists, or their storage cannot be reached; a
    warning if some do not."""
    step = max(len(items) // sampled, 1)
    sample = items[::step][:sampled]
    try:
        missing = [item for item in sample if not exists(item.place)]
    except RemoteError as error:
        what = f"{error.filename} {error.strerror}"
        return [Problem(what, "check the address, the network and the credentials", source)]
    if missing and len(missing) == len(sample):
        return [
            Problem(
                f"none of {len(sample)} sampled videos of {source} exists, "
                f"e.g. {locate(source, missing[0])}",
                "set DATA.PATH_PREFIX to the folder that the paths of the list are relative to",
                "DATA.PATH_PREFIX",
            )
        ]
    for item in missing[:_MAX_REPORTED]:
        logger.warning("%s: there is no such file or folder", locate(source, item))
    return []


def warn_absent_labels(item_list: ItemList, classes: int) -> None:
    """Warn about classes without training videos."""
    present = {label for item in item_list.items for label in item.labels}
    absent = [label for label in range(classes) if label not in present]
    if absent:
        names = item_list.class_names
        shown = ", ".join(f"{a} ({names[a]})" if names else str(a) for a in absent[:_MAX_REPORTED])
        more = f" and {len(absent) - _MAX_REPORTED} more" if len(absent) > _MAX_REPORTED else ""
        logger.warning(
            "%d of %d classes have no video in %s: %s%s",
            len(absent),
            classes,
            item_list.source,
            shown,
            more,
        )


def shared_videos(one: ItemList, other: ItemList) -> list[str]:
    """Paths that occur in both lists."""
    known = {os.path.normpath(item.path) for item in one.items}
    return [i.path for i in other.items if os.path.normpath(i.path) in known]


def warn_overlap(training: ItemList, held_out: ItemList) -> None:
    """Warn about training videos in a validation or test list."""
    shared = shared_videos(training, held_out)
    if shared:
        logger.warning(
            "%d of %d videos of %s are also trained on, e.g. %s: its accuracy says little about "
            "other videos",
            len(shared),
            len(held_out.items),
            held_out.source,
            shared[0],
        )
