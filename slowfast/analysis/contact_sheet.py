"""A contact sheet: the clips of a batch exactly as the network sees them, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from slowfast.config.node import CfgNode
from slowfast.engine.tasks import build_task
from slowfast.engine.tasks.base import Batch, Task
from slowfast.utils.errors import UserError
from slowfast.utils.files import make_dirs
from slowfast.utils.runtime import Runtime

_CAPTION = 18  # pixels of the line above each clip
_GAP = 2


def draw_sheet(clips: np.ndarray, captions: Sequence[str], columns: int = 8) -> np.ndarray:
    """uint8 RGB ``B T H W 3`` -> one image ``H W 3``: a row a clip, evenly chosen frames."""
    frames = clips.shape[1]
    chosen = np.linspace(0, frames - 1, min(columns, frames)).round().astype(int)
    rows = [_row(clip[chosen], caption) for clip, caption in zip(clips, captions)]
    return np.concatenate(rows)


def _row(frames: np.ndarray, caption: str) -> np.ndarray:
    padded = np.pad(frames, ((0, 0), (0, _GAP), (0, _GAP), (0, 0)), constant_values=255)
    strip = np.concatenate(list(padded), axis=1)
    head = np.full((_CAPTION, strip.shape[1], 3), 255, np.uint8)
    cv2.putText(head, caption, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([head, strip])


def contact_sheet(cfg: CfgNode, split: str, videos: int, columns: int = 8) -> np.ndarray:
    """The first ``videos`` videos of a split, in training augmented and mixed.

    UserError if none of them can be read.
    """
    task = build_task(cfg, Runtime(torch.device("cpu")))
    loader = task.loader(split)
    pictures: list[torch.Tensor] = []
    captions: list[str] = []
    wanted = videos
    for step, batch in enumerate(loader):
        if "video" in batch:
            video, targets = _input(task, batch, split, step)
            pictures.append(task.picture(video, split))
            rows = len(pictures[-1])
            captions += task.captions(batch, rows, targets)
            wanted = videos * rows // len(set(batch["path"]))
        if len(captions) >= wanted:
            break
    if not pictures:
        raise UserError("none of the videos can be read", "tools/check_data.py says why", split)
    return draw_sheet(torch.cat(pictures)[:wanted].numpy(), captions[:wanted], columns)


def _input(task: Task, batch: Batch, split: str, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    if split == "train":
        return task.training_input(batch, step)
    return task.to_device(batch, split)


def write_png(image: np.ndarray, path: str | Path) -> None:
    """Write RGB ``H W 3``; UserError if that fails."""
    make_dirs(Path(path).parent)
    try:
        done = cv2.imwrite(str(path), image[..., ::-1])
    except cv2.error:  # no picture format has that suffix
        done = False
    if not done:
        raise UserError(f"cannot write {path}", "name a .png file in a folder you own", "--out")
