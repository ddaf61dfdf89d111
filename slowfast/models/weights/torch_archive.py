"""Archives of ``torch.save`` and TorchScript: their content, verified."""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any

import torch

from slowfast.models.weights.archive import Archive, DamagedError
from slowfast.models.weights.memory import FileMemory
from slowfast.models.weights.torchscript import is_torchscript, module_tensors
from slowfast.models.weights.tree import check_tree
from slowfast.models.weights.unpickle import UnsupportedError, unpickle

_MAX_PICKLE = 64 << 20  # description of all tensors and all else that is no tensor


def read_torch_archive(archive: Archive, mapped: bool = False) -> Any:
    """The content of an archive of ``torch.save`` or TorchScript, verified.

    ``mapped``: tensors stay in the file until they are used. DamagedError, UnsupportedError,
    pickle.UnpicklingError or what damaged bytes lead to.
    """
    if not archive.root:
        raise DamagedError("it is a zip archive, but not one of PyTorch")
    archive.verify()
    if f"{archive.root}byteorder" in archive.records:
        order = archive.read("byteorder", 16).decode()
        if order != sys.byteorder:
            raise UnsupportedError(f"it was written on a computer of another byte order ({order})")
    memory = FileMemory(archive.file, mapped)

    def load(key: str, dtype: torch.dtype, count: int) -> torch.Tensor:
        record = archive.get(f"data/{key}")
        if record.info.file_size != count * dtype.itemsize:
            raise DamagedError(
                f"a storage of {count} numbers stands in {record.info.file_size} bytes"
            )
        return memory.tensor(record.offset, dtype, count)

    modules = is_torchscript(archive.records)
    content = unpickle(io.BytesIO(archive.read("data.pkl", _MAX_PICKLE)), load, modules)
    if not modules:
        return content
    check_tree(content, archive.size)
    state = dict(module_tensors(content))
    if not state:
        raise pickle.UnpicklingError("no module tree")
    return {"model_state": state}
