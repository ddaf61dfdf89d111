"""Read weight files of any project: tensors, numbers and texts only, never code.

The one way by which tensors come from files. What is read is what was written: archives are
compared with their checksums first. It costs no more than the file has: sizes are compared with
those of the file before memory is reserved.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from slowfast.models.weights.archive import Archive, DamagedError, is_archive
from slowfast.models.weights.arrays import read_arrays
from slowfast.models.weights.folder import SUFFIX, is_folder_checkpoint, read_folder
from slowfast.models.weights.legacy import read_legacy
from slowfast.models.weights.safetensors import read_safetensors
from slowfast.models.weights.torch_archive import read_torch_archive
from slowfast.models.weights.tree import check_tree
from slowfast.models.weights.unpickle import UnsupportedError
from slowfast.utils.errors import UserError
from slowfast.utils.remote import local_copy

# Names under which projects store the state dict in a checkpoint; the first one present is read.
_STATE_KEYS = ("model_state", "model_state_dict", "state_dict", "model", "net", "module", "blobs")


class Checkpoint(NamedTuple):
    """A file that was read: ``path`` for messages, ``content`` as it was saved."""

    path: str | Path
    content: dict[str, Any]

    @classmethod
    def read(
        cls, path: str | Path, key: str = "TRAIN.CHECKPOINT_FILE_PATH", mapped: bool = False
    ) -> Checkpoint:
        """Read a file as :func:`read_checkpoint` does."""
        return cls(path, read_checkpoint(path, key, mapped))

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """The state dict inside; UserError if there is none."""
        return state_dict_of(self.content, self.path)


def read_checkpoint(
    path: str | Path, key: str = "TRAIN.CHECKPOINT_FILE_PATH", mapped: bool = False
) -> dict[str, Any]:
    """The content of a ``.pyth``, ``.pth``, ``.pt``, TorchScript or safetensors file, of a
    ``.pkl`` of NumPy arrays (Caffe2), or of a folder of torch.distributed.checkpoint, on the CPU.

    ``mapped`` as in :func:`read_content`. UserError naming ``key`` if the file is missing,
    damaged, or holds anything but tensors and plain values under texts.
    """
    content = read_content(path, key, mapped)
    if not isinstance(content, dict):
        raise UserError(
            f"{path} contains a {type(content).__name__}, not weights", f"check {key}", key
        )
    return content


def read_content(
    path: str | Path, key: str = "TRAIN.CHECKPOINT_FILE_PATH", mapped: bool = False
) -> Any:
    """What a file of tensors holds, verified; on the CPU and without gradients.

    ``mapped``: tensors stay in the file until they are used, for a reader that needs only some of
    them; of a folder, tensors of an optimizer are left out. UserError naming ``key`` if the file
    is missing, damaged or holds more than data.
    """
    try:
        local = local_copy(path)
    except FileNotFoundError:
        remedy = f"check {key}"
        if str(path).rstrip("/").endswith(SUFFIX):
            remedy = "a folder is read on this machine alone: copy it here, or convert it to a file"
        raise UserError(f"there is no checkpoint {path}", remedy, key) from None
    except OSError as error:
        raise UserError(f"{path} {error.strerror}", f"check {key}", key) from error
    is_folder = is_folder_checkpoint(local)
    if not local.is_file() and not is_folder:
        raise UserError(f"there is no checkpoint {path}", f"check {key}", key)
    try:
        if is_folder:
            return read_folder(local, without_optimizer=mapped)
        with open(local, "rb") as file:
            size = file.seek(0, 2)
            if not size:
                raise DamagedError("it is empty")
            if local.suffix == ".safetensors":
                content: Any = read_safetensors(local)
            elif is_archive(file):
                content = read_torch_archive(Archive(file), mapped)
            elif local.suffix == ".pkl":
                content = read_arrays(file)
            else:
                content = read_legacy(file)
        check_tree(content, size)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors: {_first_line(error)}",
            "such files can run code when they are read; save its state dict alone",
            key,
        ) from error
    except UnsupportedError as error:
        raise UserError(
            f"{path} cannot be used: {_first_line(error)}",
            "save dense tensors on the CPU, numbers and texts under texts",
            key,
        ) from error
    except Exception as error:  # whatever damaged bytes lead to
        raise UserError(
            f"{path} cannot be read, it may be truncated or damaged: {_first_line(error)}",
            "copy or download it again",
            key,
        ) from error
    return content


def _first_line(error: Exception) -> str:
    """What an error says, in one line; some say nothing."""
    lines = str(error).splitlines()
    return ascii(lines[0][:300])[1:-1] if lines and lines[0] else type(error).__name__


def state_dict_of(content: dict[str, Any], path: str | Path = "") -> dict[str, torch.Tensor]:
    """The state dict inside a checkpoint: unwrapped, ``module.`` removed, tensors only.

    UserError naming ``path`` if there is none, or if its names are no texts.
    """
    for name in _STATE_KEYS:
        if isinstance(content.get(name), dict):
            content = content[name]
            break
    state = tensors_of(content, path)
    if not state:
        raise UserError(f"{path} holds no weights", "is it the right file?")
    for prefix in ("module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in state):
            state = {name[len(prefix) :]: value for name, value in state.items()}
    return state


def tensors_of(content: dict[Any, Any], path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors among the values of a dict; UserError if their names are no texts."""
    state = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
    kinds = {type(name).__name__ for name in state} - {"str"}
    if kinds:
        raise UserError(
            f"{path} names a tensor by a {min(kinds)}, not by a text",
            "is it the right file? save a state dict",
        )
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
