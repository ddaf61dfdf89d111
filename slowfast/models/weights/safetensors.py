"""Files of safetensors; those of this package carry a checksum of all tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from slowfast.models.weights.archive import DamagedError

_KEY = "sha256"
_MAX_HEADER = 64 << 20


def write_safetensors(state: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Write contiguous tensors that share no memory, with their checksum in the metadata."""
    save_file(dict(state), path, metadata={_KEY: digest_of(state)})


def read_safetensors(path: str | Path) -> dict[str, torch.Tensor]:
    """All tensors of a file; DamagedError if they are not those of its checksum, if it has one.

    Other exceptions, SafetensorError above all, if the file is damaged.
    """
    with open(path, "rb") as file:
        if int.from_bytes(file.read(8), "little") > _MAX_HEADER:
            raise DamagedError("it claims a description of more than 64 MiB")
    with safe_open(path, "pt") as file:
        expected = (file.metadata() or {}).get(_KEY)
        state = {name: file.get_tensor(name) for name in list(file.keys())}
    if expected is not None and expected != digest_of(state):
        raise DamagedError("its tensors have changed (SHA-256)")
    return state


def digest_of(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of the names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name]
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
