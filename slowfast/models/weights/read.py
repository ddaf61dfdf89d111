"""Read weight files of any project: tensors, numbers and texts only, never code."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from slowfast.models.weights.torchscript import is_torchscript, read_torchscript
from slowfast.utils.errors import UserError
from slowfast.utils.files import path_manager

# Names under which projects store the state dict in a checkpoint; the first one present is read.
_STATE_KEYS = ("model_state", "model_state_dict", "state_dict", "model", "net", "module")


class Checkpoint(NamedTuple):
    """A file that was read: ``path`` for messages, ``content`` as it was saved."""

    path: str | Path
    content: dict[str, Any]

    @classmethod
    def read(cls, path: str | Path, key: str = "TRAIN.CHECKPOINT_FILE_PATH") -> Checkpoint:
        """Read a file; UserError as :func:`read_checkpoint`."""
        return cls(path, read_checkpoint(path, key))

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """The state dict inside; UserError if there is none."""
        return state_dict_of(self.content, self.path)


def _numpy_scalars() -> list[Any]:
    """NumPy's scalar types, with which old checkpoints store losses and accuracies."""
    multiarray = getattr(np, "_core", None) or np.core
    kinds = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "?")]
    return [multiarray.multiarray.scalar, np.dtype, *kinds]


def read_checkpoint(path: str | Path, key: str = "TRAIN.CHECKPOINT_FILE_PATH") -> dict[str, Any]:
    """The content of a ``.pyth``, ``.pth``, ``.pt``, TorchScript or safetensors file, on the CPU.

    UserError naming ``key`` if the file is missing, truncated or holds more than data.
    """
    local = Path(path_manager.get_local_path(str(path))).expanduser()
    if not local.is_file():
        raise UserError(f"there is no checkpoint {path}", f"check {key}", key)
    try:
        if local.suffix == ".safetensors":
            return {"model_state": load_file(local)}
        if is_torchscript(local):
            return {"model_state": read_torchscript(local)}
        with torch.serialization.safe_globals(_numpy_scalars()):
            content = torch.load(local, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, SafetensorError) as error:
        raise UserError(
            f"{path} cannot be read, it may be truncated: {str(error).splitlines()[0]}",
            "copy or download it again",
            key,
        ) from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors: {str(error).splitlines()[0]}",
            "such files can run code when they are read; save its state dict alone",
            key,
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} contains a {type(content).__name__}, not weights", "", key)
    return content


def state_dict_of(content: dict[str, Any], path: str | Path = "") -> dict[str, torch.Tensor]:
    """The state dict inside a checkpoint: unwrapped, ``module.`` removed, tensors only."""
    for name in _STATE_KEYS:
        if isinstance(content.get(name), dict):
            content = content[name]
            break
    state = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not state:
        raise UserError(f"{path} holds no weights", "is it the right file?")
    for prefix in ("module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in state):
            state = {name[len(prefix) :]: value for name, value in state.items()}
    return state


def clear_names(names: Iterable[str], patterns: Iterable[str]) -> dict[str, str]:
    """Old name -> name with the first occurrence of each pattern removed, in turn."""
    cleared = {}
    for name in names:
        new = name
        for pattern in patterns:
            new = new.replace(pattern, "", 1)
        cleared[name] = new
    return cleared
