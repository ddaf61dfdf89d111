"""Resizing and cropping of uint8 clips, and the boxes for it.

A clip is a sequence of frames ``H W 3`` (a list, or an array ``T H W 3``). Decoded frames are
passed on by reference and copied only once, into the smaller result.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from slowfast.video.source import Clip

Box = tuple[int, int, int, int]  # top, left, height, width


def short_side_size(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) with the short side equal to ``size``, the long side rounded down."""
    if min(height, width) == size:
        return height, width
    if width < height:
        return math.floor(height / width * size), size
    return size, math.floor(width / height * size)


def resized_size(height: int, width: int, size: int, keep_aspect: bool = True) -> tuple[int, int]:
    """(height, width) of frames after :func:`resize_short_side`."""
    return short_side_size(height, width, size) if keep_aspect else (size, size)


def frame_size(clip: Clip) -> tuple[int, int]:
    """(height, width) of the frames."""
    return clip[0].shape[:2]


def resize(clip: Clip, height: int, width: int, antialias: bool = False) -> Clip:
    """Bilinear resize to ``T height width 3`` (half-pixel centres), rounded to uint8."""
    if frame_size(clip) == (height, width):
        return clip
    if antialias:
        # PyTorch has a fast uint8 kernel for T 3 H W in channels-last memory format.
        frames = torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2)
        resized = F.interpolate(
            frames, size=(height, width), mode="bilinear", align_corners=False, antialias=True
        )
        return resized.permute(0, 2, 3, 1).numpy()
    out = np.empty((len(clip), height, width, 3), dtype=np.uint8)
    for frame, target in zip(clip, out):
        cv2.resize(frame, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
    return out


def resize_short_side(
    clip: Clip, size: int, antialias: bool = False, keep_aspect: bool = True
) -> Clip:
    """Resize so that the short side (both sides without ``keep_aspect``) has ``size`` pixels."""
    return resize(clip, *resized_size(*frame_size(clip), size, keep_aspect), antialias)


def crop(clip: Clip, box: Box) -> Clip:
    """The part of a clip inside ``box``, as views of the frames."""
    top, left, height, width = box
    if isinstance(clip, np.ndarray):
        return clip[:, top : top + height, left : left + width]
    return [frame[top : top + height, left : left + width] for frame in clip]


def uniform_crop_box(height: int, width: int, size: int, which: int) -> Box:
    """Crop ``which`` along the longer side: 0 left or top, 1 centre, 2 right or bottom."""
    top = math.ceil((height - size) / 2)
    left = math.ceil((width - size) / 2)
    if height > width:
        top = (0, top, height - size)[which]
    else:
        left = (0, left, width - size)[which]
    return top, left, size, size


def centre_crop_box(height: int, width: int, size: int) -> Box:
    """The centre crop of torchvision: offsets rounded, half to even (STAF, TRX)."""
    return round((height - size) / 2), round((width - size) / 2), size, size


def random_crop_box(height: int, width: int, size: int, rng: np.random.Generator) -> Box:
    """A square of side ``size`` at a uniformly random position."""
    top = int(rng.integers(0, height - size, endpoint=True))
    left = int(rng.integers(0, width - size, endpoint=True))
    return top, left, size, size


def random_short_side(scales: list[int], inverse_uniform: bool, rng: np.random.Generator) -> int:
    """A short side in ``[scales[0], scales[1]]``; ``inverse_uniform`` draws 1 / size uniformly."""
    low, high = scales
    if inverse_uniform:
        return round(1.0 / rng.uniform(1.0 / high, 1.0 / low))
    return round(rng.uniform(low, high))


def random_resized_box(
    height: int, width: int, scale: list[float], ratio: list[float], rng: np.random.Generator
) -> Box:
    """Random resized crop (Inception; torchvision's ``RandomResizedCrop``).

    Area: ``U(scale)`` of the frame; aspect ratio: ``exp U(log ratio)``. After ten boxes that do not
    fit, the largest central one whose aspect ratio lies within ``ratio``.
    """
    for _ in range(10):
        area = rng.uniform(*scale) * height * width
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(rng.integers(0, height - h, endpoint=True))
            left = int(rng.integers(0, width - w, endpoint=True))
            return top, left, h, w
    return central_box(height, width, ratio)


def multi_scale_box(
    height: int, width: int, size: int, scales: list[float], rng: np.random.Generator
) -> Box:
    """Multi-scale crop (TSN, arXiv 1507.02159): one of 13 positions, sides that are ``scales`` of
    the short side, at most one scale apart; sides within two pixels of ``size`` become ``size``."""
    sides = [int(min(height, width) * scale) for scale in scales]
    sides = [size if abs(side - size) < 3 else side for side in sides]
    pairs = [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]
    h, w = pairs[int(rng.integers(len(pairs)))]
    h, w = min(h, height), min(w, width)
    quarter_down, quarter_right = (height - h) // 4, (width - w) // 4
    down, right = _CROP_POSITIONS[int(rng.integers(len(_CROP_POSITIONS)))]
    return down * quarter_down, right * quarter_right, h, w


# (down, right) in quarters of the largest offset: corners, centre, middles of the sides and of the
# quarters.
_CROP_POSITIONS = (
    (0, 0),
    (0, 4),
    (4, 0),
    (4, 4),
    (2, 2),
    (2, 0),
    (2, 4),
    (4, 2),
    (0, 2),
    (1, 1),
    (1, 3),
    (3, 1),
    (3, 3),
)


def central_box(height: int, width: int, ratio: list[float]) -> Box:
    """The largest central box whose aspect ratio lies within ``ratio``."""
    aspect = width / height
    w, h = width, height
    if aspect < min(ratio):
        h = round(w / min(ratio))
    elif aspect > max(ratio):
        w = round(h * max(ratio))
    return (height - h) // 2, (width - w) // 2, h, w


def moving_boxes(first: Box, last: Box, frames: int) -> list[Box]:
    """One box per frame, moving linearly from ``first`` to ``last``, truncated to pixels."""
    steps = np.linspace(np.array(first, float), np.array(last, float), frames)
    return [tuple(int(v) for v in box) for box in steps]
