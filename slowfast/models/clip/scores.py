"""Zero-shot scores: how well the frames of a clip fit the texts of each class."""

from __future__ import annotations

import torch


def class_scores(frames: torch.Tensor, classes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Scores ``B K`` of frames ``B T D`` for one text per class, ``K D``, or several, ``K n D``."""
    return (text_scores if classes.ndim == 2 else prompt_scores)(frames, classes, scale)


def text_scores(frames: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Normalised features ``B T D`` and ``K D`` -> scaled cosines, mean over frames: ``B K``."""
    return (scale * frames @ texts.t()).mean(1)


def prompt_scores(frames: torch.Tensor, prompts: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Several texts per class, ``K n D``: half of (mean over prompts of the best frame) plus (mean
    over frames of the best prompt): ``B K`` (STDD)."""
    cosines = scale * torch.einsum("btd,knd->btkn", frames, prompts)
    return 0.5 * (cosines.amax(1).mean(-1) + cosines.amax(-1).mean(1))
