"""Class names: read, validated, and compared with those of the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slowfast.config.node import CfgNode
from slowfast.datasets.fields import is_count
from slowfast.datasets.lists import check_class_names, read_json, read_lines
from slowfast.utils.errors import UserError
from slowfast.utils.text import shown

DEFAULT_NAME = "classes.txt"
_MAX_DIGITS = 9  # of a label


def read_class_names(path: str | Path, key: str = "DATA.CLASS_NAMES_PATH") -> list[str]:
    """Names in label order: text (one per line) or JSON (list, name -> id, or id -> name)."""
    path = Path(path)
    if path.suffix != ".json":
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
            return read_class_names(Path(data[key]).expanduser(), f"DATA.{key}")
    folder = data.PATH_TO_DATA_DIR
    default = Path(folder) / DEFAULT_NAME
    return read_class_names(default) if folder and default.is_file() else []


def permutation(ours: Sequence[str], theirs: Sequence[str]) -> list[int]:
    """For each name of ``ours`` its index in ``theirs``; UserError if the sets of names differ."""
    index = {name: i for i, name in enumerate(theirs)}
    missing = [name for name in ours if name not in index]
    if missing or len(ours) != len(theirs):
        raise UserError(
            f"the list has {len(ours)} classes, the checkpoint {len(theirs)}; "
            f"not in the checkpoint: {', '.join(missing[:5]) or 'none'}",
            "use the class names the checkpoint was trained with",
            "DATA.CLASS_NAMES_PATH",
        )
    return [index[name] for name in ours]


def check_order(ours: Sequence[str], theirs: Sequence[str], policy: str) -> list[int] | None:
    """The permutation to apply to the outputs; None if the orders agree or one is unknown.

    With ``policy`` ``strict``, a different order is a UserError that shows the permutation.
    """
    if not ours or not theirs or list(ours) == list(theirs):
        return None
    order = permutation(ours, theirs)
    if policy == "permute":
        return order
    first = next(i for i, j in enumerate(order) if i != j)
    raise UserError(
        f"class {first} is {ours[first]!r} in the list and {theirs[first]!r} in the checkpoint; "
        f"list label -> output of the network: {order}",
        "set DATA.CLASS_ORDER permute to apply that permutation, or use the checkpoint's order",
        "DATA.CLASS_ORDER",
    )
