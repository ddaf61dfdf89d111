"""Own clip transforms by name, before and after the published pipeline (``DATA.TRANSFORMS_*``).

A transform is a callable that is registered in a module which IMPORTS names. Its first argument is

- in ``DATA.TRANSFORMS_BEFORE``: the decoded frames, uint8 RGB ``T H W 3``;
- in ``DATA.TRANSFORMS_AFTER``: the finished clip, a uint8 tensor ``3 T S S``;

then a random generator of this sample, and the split (``train``, ``val``, ``test``). Options are
keyword arguments, written ``name:option=value`` in the configuration::

    @TRANSFORM_REGISTRY.register("darker")
    def darker(frames, rng, split, factor=0.5):
        return (frames * factor).astype(np.uint8) if split == "train" else frames

The same sample always gets the same draws, and the published pipeline draws what it would draw
without them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from slowfast.config.node import CfgNode
from slowfast.config.schema import read_literal
from slowfast.config.validate import register_rule
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.registry import Registry
from slowfast.utils.seeding import sample_rng
from slowfast.video.source import Clip

Transform = Callable[..., Any]
KEYS = ("DATA.TRANSFORMS_BEFORE", "DATA.TRANSFORMS_AFTER")
TRANSFORM_REGISTRY: Registry[Transform] = Registry("clip transform", " / ".join(KEYS))


def parse_transform(text: str, key: str) -> Transform:
    """``name`` or ``name:option=value,option=value`` -> the transform with its options.

    Values are Python literals, else texts. UserError for an unknown name or option.
    """
    name, _, listed = text.partition(":")
    transform = TRANSFORM_REGISTRY.get(name.strip())
    try:
        options = dict(part.split("=", 1) for part in listed.split(",") if part.strip())
        options = {option.strip(): read_literal(value.strip()) for option, value in options.items()}
        inspect.signature(transform).bind(None, None, "train", **options)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{text!r} cannot be used: {error}",
            f"{name}{inspect.signature(transform)}; write options as name:option=value",
            key,
        ) from error
    return partial(transform, **options)


@dataclass(frozen=True)
class ClipTransforms:
    """The transforms of one split, as (text of the configuration, callable).

    :func:`build_transforms` makes it once per data set; :meth:`for_sample` gives those of a sample.
    """

    split: str
    before: tuple[tuple[str, Transform], ...] = ()
    after: tuple[tuple[str, Transform], ...] = ()

    def for_sample(self, seed: int, epoch: int, index: int) -> SampleTransforms:
        """The transforms with the random generator of one sample."""
        if not (self.before or self.after):
            return _NO_TRANSFORMS
        return SampleTransforms(self, sample_rng(seed, epoch, index, "transforms"))


class SampleTransforms:
    """Transforms and generator of one sample."""

    def __init__(self, transforms: ClipTransforms, rng: np.random.Generator):
        self._transforms, self._rng = transforms, rng

    def before(self, clip: Clip) -> Clip:
        """Decoded frames (a list of ``H W 3`` or ``T H W 3``, uint8) -> frames ``H W 3``.

        UserError if a transform gives anything else, or another number of frames.
        """
        if not self._transforms.before:
            return clip
        frames = np.stack(clip)  # a copy: views of a video share frames
        for name, transform in self._transforms.before:
            frames = np.asarray(transform(frames, self._rng, self._transforms.split))
            if frames.dtype != np.uint8 or frames.shape[:1] + frames.shape[3:] != (len(clip), 3):
                form = f"{frames.dtype} {tuple(frames.shape)}"
                raise _wrong_result(name, form, f"uint8 frames ({len(clip)}, H, W, 3)", KEYS[0])
        return list(frames)

    def after(self, video: torch.Tensor) -> torch.Tensor:
        """Finished clips ``... 3 T S S`` uint8 -> the same shape, each clip by itself.

        UserError if a transform changes the shape or the type.
        """
        if not self._transforms.after:
            return video
        if video.ndim > 4:
            return torch.stack([self.after(clip) for clip in video])
        for name, transform in self._transforms.after:
            shape = video.shape
            video = transform(video, self._rng, self._transforms.split)
            if not isinstance(video, torch.Tensor) or video.dtype != torch.uint8:
                raise _wrong_result(
                    name, f"{getattr(video, 'dtype', type(video))}", "uint8", KEYS[1]
                )
            if video.shape != shape:
                raise _wrong_result(name, f"{tuple(video.shape)}", f"{tuple(shape)}", KEYS[1])
        return video


_NO_TRANSFORMS = SampleTransforms(ClipTransforms(""), np.random.default_rng(0))


def _wrong_result(name: str, result: str, expected: str, key: str) -> UserError:
    return UserError(
        f"the transform {name} gave {result}, expected is {expected}",
        f"see the module that registers {name.partition(':')[0]}",
        key,
    )


def build_transforms(cfg: CfgNode, split: str) -> ClipTransforms:
    """The transforms that DATA names, for one split; UserError for unknown names and options."""
    before, after = (
        tuple((text, parse_transform(text, key)) for text in cfg.lookup(key)) for key in KEYS
    )
    return ClipTransforms(split, before, after)


@register_rule
def _known_transforms(cfg: CfgNode) -> Iterable[Problem]:
    for key in KEYS:
        for text in cfg.lookup(key):
            try:
                parse_transform(text, key)
            except UserError as error:
                yield from (replace(problem, key=key) for problem in error.problems)


@TRANSFORM_REGISTRY.register("reverse_time")
def reverse_time(
    frames: np.ndarray, rng: np.random.Generator, split: str, prob: float = 0.5
) -> np.ndarray:
    """Training clips backwards with probability ``prob``; only in DATA.TRANSFORMS_BEFORE."""
    return frames[::-1] if split == "train" and rng.random() < prob else frames


@TRANSFORM_REGISTRY.register("shuffle_time")
def shuffle_time(frames: np.ndarray, rng: np.random.Generator, split: str) -> np.ndarray:
    """Frames in random order, in every split: what a network knows without motion; only in
    DATA.TRANSFORMS_BEFORE."""
    return frames[rng.permutation(len(frames))]


@TRANSFORM_REGISTRY.register("grayscale")
def grayscale(
    frames: np.ndarray, rng: np.random.Generator, split: str, prob: float = 1.0
) -> np.ndarray:
    """Luminance in all three channels with probability ``prob``, in every split; only in
    DATA.TRANSFORMS_BEFORE."""
    if rng.random() >= prob:
        return frames
    # Rec. 601, as Pillow and OpenCV convert RGB to gray.
    gray = frames @ np.array([0.299, 0.587, 0.114])
    return np.repeat(np.round(gray).astype(np.uint8)[..., None], 3, axis=-1)
