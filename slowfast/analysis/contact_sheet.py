"""Contact sheet: the clips of a batch, exactly as the network receives them, as one image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from slowfast.config.node import CfgNode
from slowfast.datasets.batch import Batch
from slowfast.engine.tasks import build_task
from slowfast.utils.errors import UserError
from slowfast.utils.files import make_dirs, write_atomic
from slowfast.utils.runtime import Runtime

_CAPTION = 18  # pixels of the line above each clip
_GAP = 2


def draw_sheet(clips: np.ndarray, captions: Sequence[str], columns: int = 8) -> np.ndarray:
    """uint8 RGB ``B T H W 3`` -> one image ``H W 3``: one row per clip, evenly spaced frames."""
    frames = clips.shape[1]
    indices = np.linspace(0, frames - 1, min(columns, frames)).round().astype(int)
    rows = [_row(clip[indices], caption) for clip, caption in zip(clips, captions)]
    return np.concatenate(rows)


def _row(frames: np.ndarray, caption: str) -> np.ndarray:
    padded = np.pad(frames, ((0, 0), (0, _GAP), (0, _GAP), (0, 0)), constant_values=255)
    strip = np.concatenate(list(padded), axis=1)
    head = np.full((_CAPTION, strip.shape[1], 3), 255, np.uint8)
    # OpenCV crashes at names of files that are not UTF-8.
    caption = caption.encode(errors="backslashreplace").decode()
    cv2.putText(head, caption, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([head, strip])


def contact_sheet(cfg: CfgNode, split: str, videos: int, columns: int = 8) -> np.ndarray:
    """uint8 RGB ``H W 3``: the clips of :func:`network_clips`, a row each."""
    return draw_sheet(*network_clips(cfg, split, videos), columns)


def network_clips(cfg: CfgNode, split: str, videos: int) -> tuple[np.ndarray, list[str]]:
    """uint8 RGB ``B T H W 3`` with a caption each: the first ``videos`` videos of a split; training
    clips are augmented and mixed.

    UserError if none of them can be read.
    """
    task = build_task(cfg, Runtime(torch.device("cpu")))
    pictures: list[torch.Tensor] = []
    captions: list[str] = []
    num_rows = videos
    for step, batch in enumerate(task.data.loader(split)):
        if batch.size:
            inputs = task.module.prepare(batch, split, step)
            pictures.append(task.module.picture(inputs, split))
            rows = len(pictures[-1])
            captions += _captions(batch, rows, inputs, task.data.class_names(split))
            num_rows = videos * rows // len(set(batch.path))
        if len(captions) >= num_rows:
            break
    if not pictures:
        raise UserError("none of the videos can be read", "tools/check_data.py says why", split)
    return torch.cat(pictures)[:num_rows].numpy(), captions[:num_rows]


def _captions(batch: Batch, rows: int, inputs: Any, names: Sequence[str]) -> list[str]:
    """The line above each of the ``rows`` clips of a batch."""
    if batch.episode is not None:
        return _episode_captions(batch, rows)
    views = rows // len(batch.path)
    captions = []
    for row in range(rows):
        item, view = divmod(row, views)
        tail = f"  view {view + 1}/{views}" if views > 1 else ""
        label = describe_target(inputs.targets[item], names)
        captions.append(f"{label}  {Path(batch.path[item]).name}{tail}")
    return captions


def _episode_captions(batch: Batch, rows: int) -> list[str]:
    queries = batch.label.flatten().tolist()
    support = rows - len(queries)
    shot = support // batch.episode.way
    labels = [row // shot for row in range(support)] + queries
    parts = ["support"] * support + ["query"] * len(queries)
    paths = [Path(path) for path in batch.path]
    return [
        f"{part} of class {label}  {path.parent.name}/{path.name}"
        for part, label, path in zip(parts, labels, paths)
    ]


def describe_target(target: torch.Tensor, names: Sequence[str]) -> str:
    """The class name of a label; for several labels their names, for a mixed label the shares of
    its classes."""
    if target.ndim == 0:
        return names[int(target)] if names else f"label {int(target)}"
    if ((target == 0) | (target == 1)).all():
        present = target.nonzero()[:, 0].tolist()
        return ", ".join(names[i] if names else str(i) for i in present) or "no label"
    share, best = target.topk(min(2, len(target)))
    words = [names[int(i)] if names else str(int(i)) for i in best]
    return " + ".join(f"{100 * float(s):.0f}% {w}" for s, w in zip(share, words) if s > 0.02)


def write_png(image: np.ndarray, path: str | Path) -> None:
    """Write RGB ``H W 3``; UserError if that fails."""
    make_dirs(Path(path).parent)
    try:
        done, data = cv2.imencode(Path(path).suffix, image[..., ::-1])
    except cv2.error:  # the suffix is not that of an image format
        done = False
    if not done:
        raise UserError(f"cannot write {path}", "name a .png file", "--out")
    write_atomic(path, lambda temporary: Path(temporary).write_bytes(data.tobytes()))
