"""Class names: read, validated, and compared with those of the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slowfast.config.node import CfgNode
from slowfast.datasets.lists import read_json, read_lines
from slowfast.utils.errors import UserError

DEFAULT_NAME = "classes.txt"


def read_class_names(path: str | Path, key: str = "DATA.CLASS_NAMES_PATH") -> list[str]:
    """Names in label order: text (one per line) or JSON (list, name -> id, or id -> name)."""
    path = Path(path)
    if path.suffix != ".json":
        return [line for _, line in read_lines(path, key)]
    data = read_json(path, key)
    if isinstance(data, list):
        return [str(name) for name in data]
    is_map = isinstance(data, dict)
    if not is_map or not all(_is_number(k) or _is_number(v) for k, v in data.items()):
        raise UserError("is not a map of labels to names", 'write {"0": "first class"}', str(path))
    # If all keys are numbers, they are the labels: a class may be called "1".
    swap = not all(_is_number(label) for label in data)
    pairs = sorted((int(v), k) if swap else (int(k), v) for k, v in data.items())
    labels = [label for label, _ in pairs]
    missing = sorted(set(range(max(labels, default=0) + 1)) - set(labels))
    if missing or len(set(labels)) < len(labels):
        text = f", {missing[0]} is missing" if missing else ""
        remedy = "number the classes 0, 1, 2 …"
        raise UserError(f"labels must run from 0 without gaps{text}", remedy, str(path))
    return [str(name) for _, name in pairs]


def _is_number(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and value.isdigit())


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
