"""Augmentation of training clips on the network's device (``AUG.DEVICE network``).

Workers decode and draw random numbers; the device applies what was drawn: RandAugment, crops and
mirroring, for all frames of a clip at once. The operations are those of
:mod:`slowfast.video.randaugment` and :mod:`slowfast.video.clip_ops`, with their rounding: tables
and statistics are equal, resampled pixels differ by at most one grey level (OpenCV 4 rounds
coordinates to 1/32 pixel, and differs more). Nothing is copied back to the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from slowfast.config.node import CfgNode
from slowfast.config.validate import register_rule
from slowfast.utils.errors import Problem
from slowfast.video import clip_ops
from slowfast.video.randaugment import GREY, Operation, inverse_affine, plain_name

if TYPE_CHECKING:
    from slowfast.video.pipelines import ClipDraw, TrainPipeline

_FILL = 128


@dataclass(frozen=True)
class Deferred:
    """What is to be done with the frames of one video: a draw for each copy, and the settings of
    the pipeline that drew them."""

    draws: tuple[ClipDraw, ...]
    size: int
    antialias: bool
    keep_aspect: bool
    interpolation: str

    @classmethod
    def of(cls, pipeline: TrainPipeline, draws: Sequence[ClipDraw]) -> Deferred:
        """The draws of ``pipeline``."""
        policy = pipeline.randaugment
        interpolation = policy.interpolation if policy else "bilinear"
        return cls(
            tuple(draws), pipeline.size, pipeline.antialias, pipeline.keep_aspect, interpolation
        )


@dataclass(frozen=True)
class ClipsToAugment:
    """Whole frames of a batch, uint8 ``3 T H W`` with a size of its own each, and what is to be
    done with them. Stands for the batch's clips until :meth:`to` moves it to a device."""

    frames: list[torch.Tensor]
    deferred: list[Deferred]

    @property
    def shape(self) -> torch.Size:
        """That of the clips: ``B 3 T S S``."""
        clips = sum(len(each.draws) for each in self.deferred)
        size = self.deferred[0].size
        return torch.Size((clips, *self.frames[0].shape[:2], size, size))

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8

    def __len__(self) -> int:
        return self.shape[0]

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> ClipsToAugment:
        """The same with ``function`` of all frames (pinned, on another device)."""
        return replace(self, frames=[function(frames) for frames in self.frames])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> torch.Tensor:
        """The augmented clips on ``device``: uint8 ``B 3 T S S`` in channels-last memory."""
        count, channels, length, height, width = self.shape
        out = torch.empty(
            (count, length, height, width, channels), dtype=torch.uint8, device=device
        )
        rows = iter(out)
        for frames, deferred in zip(self.frames, self.deferred):
            frames = frames.to(device, non_blocking=non_blocking).movedim(0, 1)
            for draw in deferred.draws:
                next(rows).copy_(augment(frames, draw, deferred).movedim(1, -1))
        return out.movedim(-1, 1)


def augment(frames: torch.Tensor, draw: ClipDraw, settings: Deferred) -> torch.Tensor:
    """Frames uint8 ``T 3 H W`` -> the clip that follows from ``draw``: uint8 ``T 3 S S``."""
    for operation in draw.operations:
        frames = apply_operation(operation, frames, settings.interpolation)
    size, antialias = settings.size, settings.antialias
    if draw.short_side:
        target = clip_ops.resized_size(*frames.shape[-2:], draw.short_side, settings.keep_aspect)
        clip = _crop(_resize(frames, *target, antialias), draw.boxes[0])
    elif len(draw.boxes) == 1:
        clip = _resize(_crop(frames, draw.boxes[0]), size, size, antialias)
    else:
        boxes = clip_ops.moving_boxes(*draw.boxes, len(frames))
        parts = [_crop(frame[None], box) for frame, box in zip(frames, boxes)]
        clip = torch.cat([_resize(part, size, size, antialias) for part in parts])
    return clip.flip(-1) if draw.mirrored else clip


def _crop(frames: torch.Tensor, box: clip_ops.Box) -> torch.Tensor:
    top, left, height, width = box
    return frames[..., top : top + height, left : left + width]


def _resize(frames: torch.Tensor, height: int, width: int, antialias: bool) -> torch.Tensor:
    if frames.shape[-2:] == (height, width):
        return frames
    resized = F.interpolate(
        frames.float(), (height, width), mode="bilinear", align_corners=False, antialias=antialias
    )
    return _rounded(resized)


def _rounded(values: torch.Tensor) -> torch.Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


# -- operations of RandAugment, on frames uint8 ``T 3 H W`` --------------------------------------


def apply_operation(
    operation: Operation, frames: torch.Tensor, interpolation: str = "bicubic"
) -> torch.Tensor:
    """The counterpart of :func:`slowfast.video.randaugment.apply_op`."""
    name, arguments = plain_name(operation[0]), operation[1]
    if name in _TABLES:
        return _look_up(frames, _TABLES[name](frames, *arguments))
    if name == "Color":
        return _color(frames, *arguments)
    if name == "Sharpness":
        return _sharpness(frames, *arguments)
    return _warp(name, frames, arguments[0], interpolation)


def _look_up(frames: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """``table``: 256 values, or ``T C 256`` (``C`` 3 or 1) for each frame and channel."""
    if table.ndim == 1:
        return table[frames.int()]
    table = table.expand(*frames.shape[:2], 256).reshape(-1)
    start = torch.arange(0, len(table), 256, device=frames.device, dtype=torch.int32)
    return table[frames.int() + start.view(*frames.shape[:2], 1, 1)]


def _ramp(frames: torch.Tensor) -> torch.Tensor:
    # float64, as NumPy computes the tables of the CPU.
    return torch.arange(256, device=frames.device, dtype=torch.float64)


def _truncated(values: torch.Tensor) -> torch.Tensor:
    return values.clamp(0, 255).to(torch.uint8)


def _posterize(frames: torch.Tensor, bits: int) -> torch.Tensor:
    step = 2 ** (8 - bits)
    return _truncated((_ramp(frames) / step).floor() * step)


def _solarize(frames: torch.Tensor, threshold: int) -> torch.Tensor:
    ramp = _ramp(frames)
    return _truncated(torch.where(ramp < threshold, ramp, 255 - ramp))


def _solarize_add(frames: torch.Tensor, amount: int) -> torch.Tensor:
    ramp = _ramp(frames)
    return _truncated(torch.where(ramp < 128, ramp + amount, ramp))


def _contrast(frames: torch.Tensor, factor: float) -> torch.Tensor:
    red, green, blue = frames.int().unbind(1)
    grey = (red * 9798 + green * 19235 + blue * 3735 + 16384) >> 15  # OpenCV's weights
    base = (grey.double().mean((-2, -1)) + 0.5).floor().view(-1, 1, 1)
    return _truncated(base + factor * (_ramp(frames) - base))


def _autocontrast(frames: torch.Tensor) -> torch.Tensor:
    low, high = (value.double().unsqueeze(-1) for value in torch.aminmax(frames.flatten(2), dim=-1))
    ramp = _ramp(frames)
    stretched = (ramp - low) * (255.0 / (high - low).clamp(min=1))
    return _truncated(torch.where(high > low, stretched, ramp))


def _equalize(frames: torch.Tensor) -> torch.Tensor:
    pixels = frames.flatten(2).long()
    histogram = torch.zeros(*pixels.shape[:2], 256, dtype=torch.long, device=frames.device)
    histogram.scatter_add_(-1, pixels, torch.ones_like(pixels))
    last = histogram.gather(-1, pixels.amax(-1, keepdim=True))
    step = (pixels.shape[-1] - last) // 255
    before = histogram.cumsum(-1) - histogram
    table = (step // 2 + before) // step.clamp(min=1)
    return _truncated(torch.where(step > 0, table, _ramp(frames).long()))


_TABLES: dict[str, Callable[..., torch.Tensor]] = {
    "Invert": lambda frames: _truncated(255 - _ramp(frames)),
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Brightness": lambda frames, factor: _truncated(factor * _ramp(frames)),
    "Contrast": _contrast,
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
}


def _color(frames: torch.Tensor, factor: float) -> torch.Tensor:
    values = frames.float()
    red, green, blue = (float(weight) * (1 - factor) for weight in GREY)
    grey = values[:, 0] * red + values[:, 1] * green + values[:, 2] * blue
    return _rounded(values * factor + grey.unsqueeze(1))


def _sharpness(frames: torch.Tensor, factor: float) -> torch.Tensor:
    values = frames.float()
    rows = values[..., :-2, :] + values[..., 1:-1, :] + values[..., 2:, :]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    inner = values[..., 1:-1, 1:-1]
    smooth = values.clone()  # Pillow does not filter the border
    smooth[..., 1:-1, 1:-1] = ((total + 4 * inner) / 13).round()
    return _rounded(values * factor + smooth * (1 - factor))


def _warp(name: str, frames: torch.Tensor, argument: float, interpolation: str) -> torch.Tensor:
    height, width = frames.shape[-2:]
    matrix = inverse_affine(name, argument, height, width)
    grid = _source_grid(matrix, height, width, interpolation == "nearest", frames.device)
    # Outside is grey: zero, after it has been subtracted.
    values = frames.reshape(1, -1, height, width).float() - _FILL
    warped = F.grid_sample(
        values, grid[None], mode=interpolation, padding_mode="zeros", align_corners=True
    )
    return _rounded(warped + _FILL).view(frames.shape)


def _source_grid(
    matrix: np.ndarray, height: int, width: int, nearest: bool, device: torch.device
) -> torch.Tensor:
    """Where each pixel comes from: ``H W 2`` in -1..1."""
    xs = torch.arange(width, device=device, dtype=torch.float64)
    ys = torch.arange(height, device=device, dtype=torch.float64)
    axes = []
    for (along_x, along_y, offset), extent in zip(matrix.tolist(), (width, height)):
        position = along_x * xs + (along_y * ys + offset)[:, None]
        position = position.round() if nearest else position
        axes.append(position * (2 / max(extent - 1, 1)) - 1)
    return torch.stack(axes, -1).float()


@register_rule
def _possible_on_the_device(cfg: CfgNode) -> Iterable[Problem]:
    if cfg.AUG.DEVICE != "network" or not cfg.TRAIN.ENABLE:
        return
    if cfg.DATA.TRANSFORMS_AFTER:
        yield Problem(
            "own transforms of finished clips need them in the workers (DATA.TRANSFORMS_AFTER)",
            "set AUG.DEVICE workers, or use DATA.TRANSFORMS_BEFORE",
            "AUG.DEVICE",
        )
    if cfg.TASK == "fewshot":
        yield Problem(
            "clips of few-shot episodes are augmented by the workers",
            "set AUG.DEVICE workers",
            "AUG.DEVICE",
        )
