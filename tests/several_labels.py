"""A set in the form of Charades, from the embedded shapes: folders of frames with labels each."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from slowfast.datasets.multi_label import HEADER
from slowfast.datasets.shapes_render import render_clip

NAMES = ["left", "right", "grow", "appear"]
VALUES = {
    "TRAIN.DATASET": "charades",
    "TEST.DATASET": "charades",
    "DATA.MULTI_LABEL": True,
    "DATA.SAMPLING": "auto",
    "DATA.SAMPLING_RATE": 2,
    "DATA.ENSEMBLE_METHOD": "max",
    "DATA.RANDOM_FLIP": False,
    "MODEL.LOSS_FUNC": "bce_logit",
    "MODEL.HEAD_ACT": "sigmoid",
}


def frame(number: int) -> str:
    return f"{number:06d}.png"


def _clip(name: str, rng: np.random.Generator) -> np.ndarray:
    return render_clip("left", rng)[::-1] if name == "right" else render_clip(name, rng)


def write_set(folder: Path, counts: dict[str, int], length: int = 12, seed: int = 0) -> Path:
    """``counts`` videos of each split: one motion, then nothing, then another, ``length`` frames
    each; the last video of a split has no label at all."""
    rng = np.random.default_rng(seed)
    for split, count in counts.items():
        rows = [HEADER]
        for number in range(count):
            name = f"{split}{number}"
            first, second = number % len(NAMES), int(rng.integers(len(NAMES)))
            parts = [(_clip(NAMES[label], rng), (label,)) for label in (first, second)]
            still = np.repeat(parts[0][0][-1:], length, axis=0)
            parts.insert(1, (still, ()))
            (folder / "frames" / name).mkdir(parents=True)
            frames = [(f, labels) for clip, labels in parts for f in clip[:length]]
            for index, (image, labels) in enumerate(frames):
                path = f"frames/{name}/{frame(index)}"
                cv2.imwrite(str(folder / path), image[..., ::-1])
                shown = () if number == count - 1 else labels
                rows.append(f'{name} 7 {index} {path} "{",".join(map(str, shown))}"')
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
    (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return folder
