"""Mixup and CutMix of a batch with itself in reverse order (timm's semantics)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from slowfast.utils.targets import smooth_one_hot


@dataclass(frozen=True)
class Mix:
    """One draw: share ``lam`` of the first video; ``box`` (top, bottom, left, right) for CutMix."""

    lam: float = 1.0
    box: tuple[int, int, int, int] | None = None


def mix_targets(labels: torch.Tensor, classes: int, lam: float, smoothing: float) -> torch.Tensor:
    """Targets ``B classes`` of a batch mixed with its reverse."""
    target = smooth_one_hot(labels, classes, smoothing)
    return target * lam + target.flip(0) * (1.0 - lam)


def cutmix_box(
    height: int, width: int, lam: float, centre_y: int, centre_x: int
) -> tuple[tuple[int, int, int, int], float]:
    """The pasted box around a centre, clipped to the frame, and lam of its true area."""
    ratio = np.sqrt(1 - lam)
    half_h, half_w = int(height * ratio) // 2, int(width * ratio) // 2
    top, bottom = np.clip([centre_y - half_h, centre_y + half_h], 0, height)
    left, right = np.clip([centre_x - half_w, centre_x + half_w], 0, width)
    area = (bottom - top) * (right - left)
    return (int(top), int(bottom), int(left), int(right)), 1.0 - area / (height * width)


def apply_mix(video: torch.Tensor, mix: Mix) -> torch.Tensor:
    """Mix a batch ``B C T H W`` with its reverse according to ``mix``."""
    if mix.lam == 1.0 and mix.box is None:
        return video
    if mix.box is None:
        return video * mix.lam + video.flip(0) * (1.0 - mix.lam)
    top, bottom, left, right = mix.box
    mixed = video.clone()
    mixed[..., top:bottom, left:right] = video.flip(0)[..., top:bottom, left:right]
    return mixed


@dataclass(frozen=True)
class Mixup:
    """Draws a :class:`Mix` for each batch; see MIXUP in the configuration."""

    alpha: float
    cutmix_alpha: float
    prob: float
    switch_prob: float
    smoothing: float
    classes: int

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Mix:
        if rng.random() >= self.prob:
            return Mix()
        both = self.alpha > 0 and self.cutmix_alpha > 0
        cutmix = rng.random() < self.switch_prob if both else self.cutmix_alpha > 0
        alpha = self.cutmix_alpha if cutmix else self.alpha
        lam = float(rng.beta(alpha, alpha))
        if not cutmix:
            return Mix(lam)
        centre_y, centre_x = int(rng.integers(height)), int(rng.integers(width))
        box, lam = cutmix_box(height, width, lam, centre_y, centre_x)
        return Mix(lam, box)

    def __call__(
        self, video: torch.Tensor, labels: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``B C T H W``, ``B`` -> mixed videos and targets ``B classes``."""
        mix = self.draw(*video.shape[-2:], rng)
        return apply_mix(video, mix), mix_targets(labels, self.classes, mix.lam, self.smoothing)
