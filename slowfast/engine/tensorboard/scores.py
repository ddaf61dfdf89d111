"""Reading scores and labels that a test has saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from slowfast.models.weights.read import read_content
from slowfast.utils.errors import UserError

_KEY = "TENSORBOARD.PREDICTIONS_PATH"
_REMEDY = "name the scores.npz of a test, or its TEST.SAVE_RESULTS_PATH"


def read_scores(path: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores ``N classes`` and labels ``N``: a ``.npz`` file, a ``.pkl`` file of two arrays, or
    PyTorch's with ``scores`` and ``labels``, or with the two as a pair.

    UserError if it holds no such thing.
    """
    try:
        content = _read(Path(path))
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise UserError(f"{path} holds no scores: {error}", _REMEDY, _KEY) from None
    if isinstance(content, dict):
        content = [content.get("scores"), content.get("labels")]
    if not isinstance(content, (list, tuple)) or len(content) != 2:
        raise UserError(f"{path} holds no scores and labels", _REMEDY, _KEY)
    parts = [torch.from_numpy(p) if isinstance(p, np.ndarray) else p for p in content]
    fits = all(isinstance(part, torch.Tensor) for part in parts)
    if not fits or parts[0].ndim != 2 or len(parts[0]) != len(parts[1]):
        raise UserError(f"{path} holds no scores N classes and labels N", _REMEDY, _KEY)
    scores, labels = parts
    return scores.float(), labels.argmax(-1) if labels.ndim == 2 else labels.long()


def _read(path: Path) -> Any:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in ("scores", "labels")}
    return read_content(path, _KEY)
