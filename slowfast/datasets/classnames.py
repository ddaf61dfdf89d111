"""Class names: they travel with the list and with the checkpoint, and their order is checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slowfast.datasets.lists import read_json, read_lines
from slowfast.utils.errors import UserError

DEFAULT_NAME = "classes.txt"


def read_class_names(path: str | Path, key: str = "DATA.CLASS_NAMES_PATH") -> list[str]:
    """Names in label order: text (one a line) or json (list, name -> id, or id -> name)."""
    path = Path(path)
    if path.suffix != ".json":
        return [line for _, line in read_lines(path, key)]
    data = read_json(path, key)
    if isinstance(data, list):
        return [str(name) for name in data]
    pairs = [(int(v), k) if _is_number(v) else (int(k), v) for k, v in data.items()]
    pairs.sort()
    if [label for label, _ in pairs] != list(range(len(pairs))):
        raise UserError("labels must run from 0 without gaps", "", str(path))
    return [str(name) for _, name in pairs]


def _is_number(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and value.isdigit())


def find_class_names(configured: str, data_dir: str) -> list[str]:
    """Names from the configured file, else from ``classes.txt`` beside the lists, else none."""
    if configured:
        return read_class_names(configured)
    beside = Path(data_dir) / DEFAULT_NAME
    return read_class_names(beside) if data_dir and beside.is_file() else []


def permutation(ours: Sequence[str], theirs: Sequence[str]) -> list[int]:
    """For each of ``ours`` its place in ``theirs``; UserError if the names differ as sets."""
    place = {name: i for i, name in enumerate(theirs)}
    missing = [name for name in ours if name not in place]
    if missing or len(ours) != len(theirs):
        raise UserError(
            f"the list has {len(ours)} classes, the checkpoint {len(theirs)}; "
            f"not in the checkpoint: {', '.join(missing[:5]) or 'none'}",
            "use the class names the checkpoint was trained with",
            "DATA.CLASS_NAMES_PATH",
        )
    return [place[name] for name in ours]


def check_order(ours: Sequence[str], theirs: Sequence[str], policy: str) -> list[int] | None:
    """None if the orders agree (or one is unknown), else the permutation to apply to outputs.

    Under ``strict`` a different order is a UserError that shows the permutation.
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
