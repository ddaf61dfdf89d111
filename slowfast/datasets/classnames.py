"""Class names: read, validated, and matched with those of the weights that are tested."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from slowfast.config.node import CfgNode
from slowfast.datasets.fields import is_count
from slowfast.datasets.lists import ItemList, check_class_names, read_json, read_lines
from slowfast.utils.addresses import join
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger
from slowfast.utils.remote import exists
from slowfast.utils.text import shown

logger = get_logger(__name__)

DEFAULT_NAME = "classes.txt"
_MAX_NAMES = 5  # in a message
_MAX_DIGITS = 9  # of a label


def read_class_names(path: str | Path, key: str = "DATA.CLASS_NAMES_PATH") -> list[str]:
    """Names in label order: text (one per line) or JSON (list, name -> id, or id -> name)."""
    if not str(path).endswith(".json"):
        names = [line for _, line in read_lines(path, key)]
    else:
        names = _names_in(read_json(path, key), str(path))
    check_class_names(names, str(path))
    return names


def _names_in(data: Any, path: str) -> list[str]:
    if isinstance(data, list):
        pairs = [(label, name) for label, name in enumerate(data)]
    elif isinstance(data, dict) and all(_is_label(k) or _is_label(v) for k, v in data.items()):
        # If all keys are numbers, they are the labels: a class may be called "1".
        swap = not all(_is_label(label) for label in data)
        if swap and not all(_is_label(label) for label in data.values()):
            raise UserError("is not a map of labels to names", 'write {"0": "first class"}', path)
        pairs = [(int(v), k) if swap else (int(k), v) for k, v in data.items()]
    else:
        raise UserError("is not a map of labels to names", 'write {"0": "first class"}', path)
    names: dict[int, str] = {}
    for label, name in pairs:
        if not isinstance(name, (str, int)) or isinstance(name, bool):
            raise UserError(f"class {label} is called {shown(name)}", "names are texts", path)
        names[label] = str(name)
    if not names:
        raise UserError("names no class", 'write {"0": "first class"}', path)
    missing = next((label for label in range(len(names)) if label not in names), None)
    if missing is not None or len(names) < len(pairs):
        text = "" if missing is None else f", {missing} is missing"
        remedy = "number the classes 0, 1, 2 …"
        raise UserError(f"labels must run from 0 without gaps{text}", remedy, path)
    return [names[label] for label in range(len(names))]


def _is_label(value: object) -> bool:
    """Whether a value is a whole number from 0, or a text of one, of a reasonable size."""
    is_number = isinstance(value, (int, str)) and not isinstance(value, bool)
    if isinstance(value, int):
        return is_number and 0 <= value < 10**_MAX_DIGITS
    return is_number and is_count(value) and len(value) <= _MAX_DIGITS


def configured_names(data: CfgNode) -> list[str]:
    """Class names in label order from the section DATA: CLASS_NAMES, INDEX_LABEL_MAPPING_FILE,
    CLASS_NAMES_PATH, or ``classes.txt`` beside the lists; empty without any of them."""
    if data.CLASS_NAMES:
        return list(data.CLASS_NAMES)
    for key in ("INDEX_LABEL_MAPPING_FILE", "CLASS_NAMES_PATH"):
        if data[key]:
            return read_class_names(os.path.expanduser(data[key]), f"DATA.{key}")
    folder = data.PATH_TO_DATA_DIR
    default = join(folder, DEFAULT_NAME)
    return read_class_names(default) if folder and exists(default) else []


def match_classes(item_list: ItemList, known: Sequence[str], policy: str) -> ItemList:
    """The list with the labels of the classes ``known``, those of the weights that are tested: a
    class is found by its name, so that the list may have a part of them, or another order.

    A list without class names has these labels already, and gets the names. ``policy``
    (DATA.CLASS_ORDER) decides about videos of unknown classes: ``names`` is a UserError, ``known``
    leaves them out. ``strict``: any difference is a UserError.
    """
    ours = item_list.class_names
    if not known or list(known) == ours:
        return item_list
    if not ours:
        return replace(item_list, class_names=list(known))
    if policy == "strict":
        raise _other_order(item_list, known)
    index = {name: label for label, name in enumerate(known)}
    labels = [index.get(name) for name in ours]
    present = {label for item in item_list.items for label in item.labels}
    unknown = [label for label in sorted(present) if labels[label] is None]
    matched = [item.relabelled(labels) for item in item_list.items]
    items = [item for item in matched if item is not None]
    left_out = len(matched) - len(items)
    source = item_list.source
    if unknown and (policy != "known" or left_out == len(item_list.items)):
        raise _unknown_classes(item_list, known, unknown, left_out)
    if unknown:
        names = ", ".join(repr(ours[label]) for label in unknown[:_MAX_NAMES])
        text = "%s: %d videos of %d classes that the weights do not know are left out: %s"
        logger.warning(text, source, left_out, len(unknown), names)
    logger.info(
        "%s: %d classes are found by name in the %d of the weights",
        source,
        sum(label is not None for label in labels),
        len(known),
    )
    return ItemList(items, source, list(known), left_out)


def _unknown_classes(
    item_list: ItemList, known: Sequence[str], unknown: Sequence[int], videos: int
) -> UserError:
    names = ", ".join(repr(item_list.class_names[label]) for label in unknown[:_MAX_NAMES])
    more = f" and {len(unknown) - _MAX_NAMES} more" if len(unknown) > _MAX_NAMES else ""
    theirs = ", ".join(map(repr, known[:_MAX_NAMES])) + (", …" if len(known) > _MAX_NAMES else "")
    remedy = f"the weights know {len(known)} classes: {theirs}; write the names of classes as there"
    if videos < len(item_list.items):
        remedy += ", or set DATA.CLASS_ORDER known to leave these videos out"
    return UserError(
        f"{videos} of {len(item_list.items)} videos of {item_list.source} show classes that the "
        f"weights do not know: {names}{more}",
        remedy,
        "DATA.CLASS_ORDER",
    )


def _other_order(item_list: ItemList, known: Sequence[str]) -> UserError:
    ours = item_list.class_names
    pairs = enumerate(itertools.zip_longest(ours, known))
    first, (name, other) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    return UserError(
        f"class {first} is {name!r} in {item_list.source} and {other!r} in the weights "
        f"({len(ours)} and {len(known)} classes)",
        "set DATA.CLASS_ORDER names, which finds the classes by their names",
        "DATA.CLASS_ORDER",
    )
