"""What the network is given: clips as they reach it, and classes that are mirror images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slowfast.analysis.contact_sheet import network_clips
from slowfast.analysis.report.pictures import Budget, Picture, draw_picture
from slowfast.config.node import CfgNode
from slowfast.datasets.mirror import mirrored_name

_VIDEOS = {"train": 6, "test": 2}
MOST_CLIPS = 12  # of a split: a test video has many views


@dataclass(frozen=True)
class MirrorPair:
    """Two classes whose names say that one is the mirror image of the other; ``confused``: test
    videos of one that were taken for the other, None if that is not known."""

    one: str
    other: str
    confused: int | None


def sample_clips(cfg: CfgNode, split: str, budget: Budget) -> list[tuple[Picture, str]]:
    """Clips of ``train`` or ``test`` with captions, as the network receives them; few enough for
    what is left of the budget."""
    if not budget.allows():
        return []
    # A teacher would be built and loaded, too.
    values: dict[str, object] = {"SOLVER.KD": False}
    if split == "train":
        values["TRAIN.BATCH_SIZE"] = _VIDEOS[split]
    clips, captions = network_clips(cfg.with_values(values, "the page"), split, _VIDEOS[split])
    made = []
    for clip, caption in list(zip(clips, captions))[:MOST_CLIPS]:
        picture = draw_picture(list(clip[_spread(len(clip))]))
        if not budget.take(picture):
            break
        made.append((picture, caption))
    return made


def _spread(frames: int) -> np.ndarray:
    """Indices of at most sixteen of the frames."""
    return np.linspace(0, frames - 1, min(frames, 16)).round().astype(int)


def mirror_pairs(names: Sequence[str], matrix: np.ndarray | None) -> list[MirrorPair]:
    """Pairs among the classes ``names``; ``matrix`` is their confusion matrix, if there is one."""
    labels = {name.lower(): label for label, name in enumerate(names)}
    pairs = []
    for label, name in enumerate(names):
        other = labels.get(mirrored_name(name).lower(), label)
        if other > label:
            both = None if matrix is None else int(matrix[label, other] + matrix[other, label])
            pairs.append(MirrorPair(name, names[other], both))
    return pairs


def mirror_verdict(cfg: CfgNode) -> str:
    """What the configuration does about mirrored clips, as a sentence."""
    if not cfg.DATA.RANDOM_FLIP:
        return "Training clips are not mirrored (DATA.RANDOM_FLIP False)."
    if cfg.DATA.MIRROR_CLASSES:
        return (
            "Training clips are mirrored at random, and their labels are swapped "
            f"(DATA.MIRROR_CLASSES {cfg.DATA.MIRROR_CLASSES})."
        )
    return (
        "Training clips are mirrored at random and keep their label, which is wrong for these "
        "classes: set DATA.RANDOM_FLIP False, or DATA.MIRROR_CLASSES names."
    )
