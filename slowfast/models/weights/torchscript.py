"""TorchScript archives as weights: tensors are read, code is neither loaded nor run.

``data.pkl`` describes the module tree, ``data/<key>`` hold the memory of tensors, ``code/`` is a
program, which is not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from slowfast.models.weights.unpickle import Node


def is_torchscript(names: Iterable[str]) -> bool:
    """Whether the records of an archive are those of TorchScript."""
    parts = [name.split("/", 1)[-1] for name in names]
    return "constants.pkl" in parts and any(part.startswith("code/") for part in parts)


def module_tensors(node: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a module tree by their dotted names; those of other values are left out."""
    for name, value in getattr(node, "attributes", {}).items():
        if isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, Node):
            yield from module_tensors(value, f"{prefix}{name}.")
