"""RandAugment (arXiv 1909.13719) for clips: one draw of operations, magnitudes and signs for all
frames.

Policies are written as in timm and PySlowFast (``rand-m7-n4-mstd0.5-inc1``). The operations are
those of Pillow, computed with OpenCV on uint8 frames. Statistics (histograms, means) are per frame,
as if the frames were augmented one by one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from slowfast.utils.errors import UserError
from slowfast.video.clip_ops import Box, crop, frame_size
from slowfast.video.source import Clip

Operation = tuple[str, list]  # name and arguments
_MAX_LEVEL = 10.0
_APPLY_PROBABILITY = 0.5
_FILL = (128, 128, 128)
GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_INTERPOLATION = {
    "bicubic": cv2.INTER_CUBIC,
    "bilinear": cv2.INTER_LINEAR,
    "nearest": cv2.INTER_NEAREST,
}

BASIC = [
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "Posterize",
    "Solarize",
    "SolarizeAdd",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
]
_HAS_INCREASING = {"Posterize", "Solarize", "Color", "Contrast", "Brightness", "Sharpness"}
INCREASING = [op + "Increasing" if op in _HAS_INCREASING else op for op in BASIC]
# Weight set 0 of the published policy; with weights, operations are drawn without replacement.
_WEIGHTS_0 = {
    "Rotate": 0.3,
    "ShearX": 0.2,
    "ShearY": 0.2,
    "TranslateXRel": 0.1,
    "TranslateYRel": 0.1,
    "Color": 0.025,
    "Sharpness": 0.025,
    "AutoContrast": 0.025,
    "Solarize": 0.005,
    "SolarizeAdd": 0.005,
    "Contrast": 0.005,
    "Brightness": 0.005,
    "Equalize": 0.005,
    "Posterize": 0.0,
    "Invert": 0.0,
}


def level_argument(op: str, magnitude: float, negate: bool, translate_const: int = 100) -> list:
    """Arguments of ``op`` at ``magnitude`` (0..10); ``negate`` reverses operations with a sign."""
    share = magnitude / _MAX_LEVEL
    sign = -1 if negate else 1
    name, kind = (op[: -len("Increasing")], "inc") if op.endswith("Increasing") else (op, "")
    if name in ("AutoContrast", "Equalize", "Invert"):
        return []
    if name in ("Color", "Contrast", "Brightness", "Sharpness"):
        return [1.0 + sign * share * 0.9] if kind else [share * 1.8 + 0.1]
    table: dict[str, Callable[[], float]] = {
        "Rotate": lambda: sign * share * 30.0,
        "Posterize": lambda: 4 - int(share * 4) if kind else int(share * 4),
        "PosterizeOriginal": lambda: int(share * 4) + 4,
        "Solarize": lambda: 256 - int(share * 256) if kind else int(share * 256),
        "SolarizeAdd": lambda: int(share * 110),
        "ShearX": lambda: sign * share * 0.3,
        "ShearY": lambda: sign * share * 0.3,
        "TranslateX": lambda: sign * share * float(translate_const),
        "TranslateY": lambda: sign * share * float(translate_const),
        "TranslateXRel": lambda: sign * share * 0.45,
        "TranslateYRel": lambda: sign * share * 0.45,
    }
    return [table[name]()]


# -- operations -----------------------------------------------------------------------------


def _histograms(frame: np.ndarray) -> np.ndarray:
    """256-bin histogram of each channel: ``3 256``."""
    channels = cv2.split(frame)
    return np.stack([cv2.calcHist([c], [0], None, [256], [0, 256]).ravel() for c in channels])


def _autocontrast_table(frame: np.ndarray) -> np.ndarray:
    tables = []
    for histogram in _histograms(frame):
        present = np.flatnonzero(histogram)
        low, high = int(present[0]), int(present[-1])
        ramp = np.arange(256, dtype=np.float64)
        if high > low:
            ramp = (ramp - low) * (255.0 / (high - low))
        tables.append(np.clip(ramp, 0, 255))
    return np.stack(tables, -1).astype(np.uint8)


def _equalize_table(frame: np.ndarray) -> np.ndarray:
    tables = []
    for histogram in _histograms(frame).astype(np.int64):
        present = histogram[histogram > 0]
        step = int((present.sum() - present[-1]) // 255)
        if step == 0:
            tables.append(np.arange(256))
            continue
        before = np.concatenate([[0], np.cumsum(histogram)[:-1]])
        tables.append(np.minimum((step // 2 + before) // step, 255))
    return np.stack(tables, -1).astype(np.uint8)


def _contrast_table(frame: np.ndarray, factor: float) -> np.ndarray:
    mean = int(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).mean() + 0.5)
    return _blend_table(mean, factor)


def _blend_table(base: int, factor: float) -> np.ndarray:
    ramp = base + factor * (np.arange(256, dtype=np.float64) - base)
    return np.clip(ramp, 0, 255).astype(np.uint8)


def _solarize_add_table(amount: int) -> np.ndarray:
    ramp = np.arange(256)
    return np.where(ramp < 128, np.minimum(ramp + amount, 255), ramp).astype(np.uint8)


def _solarize_table(threshold: int) -> np.ndarray:
    ramp = np.arange(256)
    return np.where(ramp < threshold, ramp, 255 - ramp).astype(np.uint8)


_FRAME_TABLES = {
    "AutoContrast": _autocontrast_table,
    "Equalize": _equalize_table,
    "Contrast": _contrast_table,
}
_GEOMETRIC = {"Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"}
_FIXED_TABLES = {
    "Invert": lambda: np.arange(255, -1, -1).astype(np.uint8),
    "Posterize": lambda bits: (np.arange(256) & ~(2 ** (8 - bits) - 1) & 255).astype(np.uint8),
    "Solarize": _solarize_table,
    "SolarizeAdd": _solarize_add_table,
    "Brightness": lambda factor: _blend_table(0, factor),
}


def _color(frame: np.ndarray, factor: float) -> np.ndarray:
    matrix = factor * np.eye(3, dtype=np.float32) + (1 - factor) * np.tile(GREY, (3, 1))
    return cv2.transform(frame, matrix)


_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13


def _sharpness(frame: np.ndarray, factor: float) -> np.ndarray:
    smooth = cv2.filter2D(frame, -1, _SMOOTH)
    # Pillow does not filter the border.
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        smooth[edge] = frame[edge]
    return cv2.addWeighted(frame, factor, smooth, 1 - factor, 0)


def inverse_affine(op: str, argument: float, height: int, width: int) -> np.ndarray:
    """The affine map ``2 3`` from output to input pixel indices of a geometric operation."""
    matrix = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    if op == "ShearX":
        matrix[0, 1] = argument
    elif op == "ShearY":
        matrix[1, 0] = argument
    elif op == "TranslateXRel":
        matrix[0, 2] = argument * width
    elif op == "TranslateYRel":
        matrix[1, 2] = argument * height
    else:  # Rotate, counter-clockwise about the centre
        angle = -math.radians(argument)
        cos, sin = math.cos(angle), math.sin(angle)
        cx, cy = width / 2, height / 2
        matrix[:] = [[cos, sin, cx - cos * cx - sin * cy], [-sin, cos, cy + sin * cx - cos * cy]]
    # Pillow maps pixel centres (x + 0.5), OpenCV maps pixel indices.
    matrix[:, 2] += 0.5 * (matrix[:, 0] + matrix[:, 1]) - 0.5
    return matrix


def apply_op(
    op: str, clip: Clip, args: list, box: Box | None = None, interpolation: str = "bicubic"
) -> Clip:
    """Apply ``op`` to the frames of a clip; returns the part inside ``box`` (default: all)."""
    name = plain_name(op)
    box = box or (0, 0, *frame_size(clip))
    if name in _GEOMETRIC:
        return _warp(name, clip, args[0], box, interpolation)
    if name == "Sharpness":
        return _sharpen_part(clip, args[0], box)
    part = crop(clip, box)
    if name == "Color":
        return [_color(frame, *args) for frame in part]
    if name in _FIXED_TABLES:
        table = _FIXED_TABLES[name](*args)
        return [cv2.LUT(frame, table) for frame in part]
    # The lookup table depends on the whole frame, even if only a part is computed.
    tables = (_FRAME_TABLES[name](frame, *args).reshape(256, 1, -1) for frame in clip)
    return [cv2.LUT(frame, table) for frame, table in zip(part, tables)]


def plain_name(op: str) -> str:
    """``op`` without what only concerns the meaning of its magnitude."""
    return op.removesuffix("Increasing").removesuffix("Original")


def _warp(name: str, clip: Clip, argument: float, box: Box, interpolation: str) -> Clip:
    top, left, height, width = box
    matrix = inverse_affine(name, argument, *frame_size(clip))
    matrix[:, 2] += matrix[:, 0] * left + matrix[:, 1] * top
    flags = _INTERPOLATION[interpolation] | cv2.WARP_INVERSE_MAP
    return [
        cv2.warpAffine(frame, matrix, (width, height), flags=flags, borderValue=_FILL)
        for frame in clip
    ]


def _sharpen_part(clip: Clip, factor: float, box: Box) -> Clip:
    grown = _grow(box, *frame_size(clip))
    inner = (box[0] - grown[0], box[1] - grown[1], *box[2:])
    return crop([_sharpness(frame, factor) for frame in crop(clip, grown)], inner)


def _grow(box: Box, height: int, width: int) -> Box:
    """``box`` with one more pixel on each side, inside the frame."""
    top, left = max(box[0] - 1, 0), max(box[1] - 1, 0)
    bottom, right = min(box[0] + box[2] + 1, height), min(box[1] + box[3] + 1, width)
    return top, left, bottom - top, right - left


# -- policy ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class RandAugment:
    """A policy: ``num_ops`` operations drawn from ``ops``, each applied with probability 0.5."""

    magnitude: float = 10.0
    num_ops: int = 2
    magnitude_std: float = 0.0
    ops: tuple[str, ...] = tuple(BASIC)
    weights: tuple[float, ...] | None = None
    interpolation: str = "bicubic"

    def draw(self, rng: np.random.Generator) -> list[Operation]:
        """The operations to apply, in order, as (name, arguments)."""
        numbers = rng.choice(
            len(self.ops), self.num_ops, replace=self.weights is None, p=self.weights
        )
        operations = []
        for number in numbers:
            if rng.random() > _APPLY_PROBABILITY:
                continue
            magnitude = self.magnitude
            if self.magnitude_std > 0:
                magnitude = rng.normal(magnitude, self.magnitude_std)
            magnitude = float(np.clip(magnitude, 0, _MAX_LEVEL))
            op = self.ops[number]
            operations.append((op, level_argument(op, magnitude, bool(rng.random() > 0.5))))
        return operations

    def __call__(self, clip: Clip, rng: np.random.Generator, box: Box | None = None) -> Clip:
        """Augment a clip by operations of its own and return the part inside ``box``."""
        return self.apply(clip, self.draw(rng), box)

    def apply(self, clip: Clip, operations: Sequence[Operation], box: Box | None = None) -> Clip:
        """Apply ``operations`` and return the part inside ``box`` (default: all of the clip).

        The result equals augmenting whole frames and cropping, but only the required pixels are
        computed. Example: Rotate, then Sharpness, then Invert, with ``box`` a 100 x 100 crop.
        Backwards from ``box``:

        - Invert works per pixel: it has to return, and to read, the 100 x 100 box;
        - Sharpness reads one more pixel on each side: 102 x 102;
        - Rotate may read any pixel: the whole frame.

        Forwards, Rotate computes the 102 x 102 region, Sharpness and Invert the 100 x 100 box.
        """
        height, width = frame_size(clip)
        outputs = [box or (0, 0, height, width)]  # region that each operation returns, last first
        for op, _ in reversed(operations):
            outputs.append(_input_region(op, outputs[-1], height, width))
        region = (0, 0, height, width)  # part of the frame that ``clip`` covers
        for (op, args), output in zip(operations, outputs[-2::-1]):
            clip = apply_op(op, clip, args, _relative(output, region), self.interpolation)
            region = output
        return crop(clip, _relative(outputs[0], region))


def _relative(box: Box, region: Box) -> Box:
    """``box`` in coordinates of ``region``, which contains it."""
    return box[0] - region[0], box[1] - region[1], *box[2:]


def _input_region(op: str, output: Box, height: int, width: int) -> Box:
    """The part of its input that ``op`` reads to compute ``output``."""
    name = plain_name(op)
    if name in _GEOMETRIC or name in _FRAME_TABLES:
        return 0, 0, height, width
    return _grow(output, height, width) if name == "Sharpness" else output


def parse_randaugment(spec: str, interpolation: str = "bicubic") -> RandAugment:
    """``rand-m7-n4-mstd0.5-inc1`` -> a policy; UserError if ``spec`` is not a policy."""
    head, *parts = spec.split("-")
    if head != "rand":
        raise UserError(
            f"{spec!r} does not begin with 'rand'", "e.g. rand-m7-n4-mstd0.5-inc1", "AUG.AA_TYPE"
        )
    values: dict[str, str] = {}
    for part in parts:
        match = re.fullmatch(r"(mstd|inc|m|n|w)(\d+(?:\.\d+)?)", part)
        if not match:
            raise UserError(
                f"{part!r} in {spec!r} is not understood",
                "parts are m, n, mstd, inc and w with a number",
                "AUG.AA_TYPE",
            )
        values[match[1]] = match[2]
    # As published: any value of inc, even 0, selects the increasing set.
    ops = INCREASING if "inc" in values else BASIC
    weights = None
    if "w" in values:
        raw = np.array([_WEIGHTS_0[op.removesuffix("Increasing")] for op in ops])
        weights = tuple(raw / raw.sum())
    return RandAugment(
        magnitude=float(values.get("m", 10)),
        num_ops=int(float(values.get("n", 2))),
        magnitude_std=float(values.get("mstd", 0)),
        ops=tuple(ops),
        weights=weights,
        interpolation=interpolation,
    )
