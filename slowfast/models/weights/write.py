"""Write files of tensors, with checksums of all that is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import torch

from slowfast.models.weights.archive import add_checksums


class _Output:
    """A file that records the error of a failed write, which ``torch.save`` hides."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def write_archive(content: Any, path: str | Path) -> None:
    """``torch.save`` with a table of checksums; PyTorch reads the file as any other.

    OSError if it cannot be written.
    """
    with open(path, "wb") as file:
        output = _Output(file)
        try:
            torch.save(content, output)
        except RuntimeError as error:  # torch raises it for a full disk
            if output.error is None:
                raise
            raise output.error from error
    add_checksums(path)
