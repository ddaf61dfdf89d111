"""Files of safetensors; those of this package carry a checksum of all that is in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from slowfast.models.weights.archive import DamagedError

# One entry of the metadata holds everything: safetensors writes several in any order.
_KEY = "slowfast"
_SHA256 = "sha256"
_FACTS = ("class_names", "cfg")
_MAX_HEADER = 64 << 20


def write_safetensors(
    state: Mapping[str, torch.Tensor], path: str | Path, facts: Mapping[str, Any] | None = None
) -> None:
    """Write contiguous tensors that share no memory. The metadata hold a checksum and ``facts``:
    ``class_names`` (list of texts) and ``cfg`` (text), either or both."""
    facts = dict(facts or {})
    note = json.dumps({_SHA256: digest_of(state, facts), **facts})
    save_file(dict(state), path, metadata={_KEY: note})


def read_safetensors(path: str | Path) -> dict[str, Any]:
    """``model_state``, all tensors of a file, and ``class_names`` and ``cfg`` if it has them.

    DamagedError if they are not those of its checksum, if it has one; other exceptions,
    SafetensorError above all, if the file is damaged.
    """
    with open(path, "rb") as file:
        if int.from_bytes(file.read(8), "little") > _MAX_HEADER:
            raise DamagedError("it claims a description of more than 64 MiB")
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        state = {name: file.get_tensor(name) for name in list(file.keys())}
    # Earlier files have the checksum alone, of the tensors alone.
    note = json.loads(metadata[_KEY]) if _KEY in metadata else {_SHA256: metadata.get(_SHA256)}
    facts = {name: note[name] for name in _FACTS if name in note}
    if note.get(_SHA256) not in (None, digest_of(state, facts)):
        raise DamagedError("its content has changed (SHA-256)")
    return {"model_state": state, **facts}


def digest_of(state: Mapping[str, torch.Tensor], facts: Mapping[str, Any] | None = None) -> str:
    """SHA-256 of ``facts`` and of the names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256()
    if facts:
        digest.update(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(state):
        value = state[name]
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
