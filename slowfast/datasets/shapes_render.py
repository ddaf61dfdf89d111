"""Rendering of ``moving_shapes`` clips: one textured shape moves over moving noise.

Classes come in pairs; the second class of a pair is the first one in reverse order of frames, so
that a network that ignores the order of frames cannot distinguish them. Position, size, angle,
colour and speed vary, so that single frames do not reveal the pair either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

# Pairs (forwards, backwards) in label order; the first four pairs make the eight-class set.
PAIRS = (
    ("left", "right"),
    ("up", "down"),
    ("clockwise", "counterclockwise"),
    ("grow", "shrink"),
    ("up_right", "down_left"),
    ("up_left", "down_right"),
    ("appear", "vanish"),
    ("widen", "narrow"),
)
CLASSES = [name for pair in PAIRS for name in pair]

FRAMES, HEIGHT, WIDTH = 24, 96, 128
_PATCH = 64  # side of the shape's image before scaling
_DIRECTIONS = {
    "left": (-1.0, 0.0),
    "up": (0.0, -1.0),
    "up_right": (0.75, -0.75),
    "up_left": (-0.75, -0.75),
}


@dataclass
class _Pose:
    """Position, angle (degrees), scale and opacity of the shape: arrays of length FRAMES."""

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    scale_x: np.ndarray
    scale_y: np.ndarray
    opacity: np.ndarray


def _texture(
    rng: np.random.Generator, height: int, width: int, base: np.ndarray, contrast: float
) -> np.ndarray:
    """Colour noise with a 1/f spectrum around the colour ``base``: ``H W 3`` float32, 0..255."""
    out = np.zeros((height, width, 3), np.float32)
    for octave in range(5):
        cells = 2 ** (octave + 1)
        shape = (max(height * cells // width, 2), cells, 3)
        layer = rng.normal(size=shape).astype(np.float32)
        out += cv2.resize(layer, (width, height), interpolation=cv2.INTER_CUBIC) / cells**0.4
    return np.clip(base.astype(np.float32) + contrast * out, 0, 255)


def _colour(rng: np.random.Generator, unlike: np.ndarray | None = None) -> np.ndarray:
    """A muted random colour, or with ``unlike`` a strong one of clearly different brightness."""
    if unlike is None:
        return rng.uniform(90, 165, size=3)
    while True:
        colour = rng.uniform(20, 235, size=3)
        if np.abs(colour.mean() - unlike.mean()) > 45:
            return colour


def _silhouette(rng: np.random.Generator) -> np.ndarray:
    """A filled shape without rotational symmetry: ``PATCH PATCH`` float32, 0..1."""
    mask = np.zeros((_PATCH, _PATCH), np.uint8)
    centre, radius = _PATCH // 2, _PATCH // 2 - 3
    kind = rng.integers(3)
    if kind == 0:  # irregular polygon
        corners = int(rng.integers(3, 7))
        angles = np.sort(rng.uniform(0, 2 * np.pi / corners, corners)) * 0.5
        angles += np.arange(corners) * 2 * np.pi / corners
        radii = radius * rng.uniform(0.7, 1.0, corners)
        points = np.stack([centre + radii * np.cos(angles), centre + radii * np.sin(angles)], -1)
        cv2.fillPoly(mask, [points.round().astype(np.int32)], 255)
    elif kind == 1:  # ellipse with a knob
        axes = (radius, int(radius * rng.uniform(0.4, 0.7)))
        cv2.ellipse(mask, (centre, centre), axes, 0, 0, 360, 255, -1)
        cv2.circle(mask, (centre + radius // 2, centre - radius // 2), radius // 3, 255, -1)
    else:  # three arms of different length
        for arm in range(3):
            angle = arm * 2 * np.pi / 3 + rng.uniform(-0.3, 0.3)
            length = radius * (1.0, 0.8, 0.6)[arm]
            tip = (int(centre + length * np.cos(angle)), int(centre + length * np.sin(angle)))
            cv2.line(mask, (centre, centre), tip, 255, int(rng.integers(14, 21)))
    return cv2.GaussianBlur(mask, (3, 3), 0).astype(np.float32) / 255


def _constant(value: float) -> np.ndarray:
    return np.full(FRAMES, value, np.float32)


def _still(rng: np.random.Generator, size: float) -> _Pose:
    """A shape at rest at a random position."""
    margin = 0.3 * _PATCH * size
    return _Pose(
        _constant(rng.uniform(margin, WIDTH - margin)),
        _constant(rng.uniform(margin, HEIGHT - margin)),
        _constant(rng.uniform(0, 360)),
        _constant(size),
        _constant(size),
        _constant(1.0),
    )


def _motion(name: str, rng: np.random.Generator) -> _Pose:
    """The motion of class ``name`` (the first class of a pair)."""
    pose = _still(rng, rng.uniform(0.75, 1.05))
    curve = np.linspace(0, 1, FRAMES, dtype=np.float32) ** rng.uniform(0.7, 1.4)
    if name in _DIRECTIONS:
        dx, dy = _DIRECTIONS[name]
        travel = rng.uniform(0.35, 0.6)
        pose.x, pose.y = (
            _travel(curve, d * travel * side, side, rng) for d, side in ((dx, WIDTH), (dy, HEIGHT))
        )
        return pose
    changes: dict[str, Callable[[], None]] = {
        "clockwise": lambda: _set(pose, angle=pose.angle + curve * rng.uniform(90, 170)),
        "grow": lambda: _grow(pose, curve, rng, both=True),
        "widen": lambda: _grow(pose, curve, rng, both=False),
        "appear": lambda: _set(pose, opacity=0.05 + 0.95 * curve),
    }
    changes[name]()
    return pose


def _travel(curve: np.ndarray, distance: float, side: int, rng: np.random.Generator) -> np.ndarray:
    """Positions along one axis, the whole path inside the frame where possible."""
    low = 0.15 * side + max(-distance, 0)
    high = 0.85 * side - max(distance, 0)
    start = rng.uniform(min(low, high), max(low, high))
    return (start + curve * distance).astype(np.float32)


def _grow(pose: _Pose, curve: np.ndarray, rng: np.random.Generator, both: bool) -> None:
    low, high = rng.uniform(0.5, 0.7), rng.uniform(1.3, 1.6)
    factor = low * (high / low) ** curve
    pose.scale_x = pose.scale_x * factor
    if both:
        pose.scale_y = pose.scale_y * factor
    else:  # the long axis lies along x, so that only the width changes
        pose.angle = _constant(0.0)


def _set(pose: _Pose, **values: np.ndarray) -> None:
    for name, value in values.items():
        setattr(pose, name, value)


def _paste(frame: np.ndarray, texture: np.ndarray, mask: np.ndarray, pose: _Pose, t: int) -> None:
    """Draw the shape at its pose of frame ``t`` onto ``frame`` (float32 ``H W 3``) in place."""
    angle = np.deg2rad(pose.angle[t])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = np.diag([pose.scale_x[t], pose.scale_y[t]]) @ turn
    offset = np.array([pose.x[t], pose.y[t]]) - linear @ np.full(2, _PATCH / 2)
    matrix = np.concatenate([linear, offset[:, None]], axis=1)
    alpha = cv2.warpAffine(mask, matrix, (WIDTH, HEIGHT)) * float(pose.opacity[t])
    colour = cv2.warpAffine(texture, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
    frame += alpha[..., None] * (colour - frame)


DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
PATHS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    # Fraction of the distance -> offset perpendicular to it, -1..1.
    "straight": lambda s: np.zeros_like(s),
    "arc": lambda s: np.sin(np.pi * s),
    "zigzag": lambda s: 2 / np.pi * np.arcsin(np.sin(5 * np.pi * s)),
}
SPEEDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    # Fraction of the time -> fraction of the distance.
    "steady": lambda u: u,
    "accelerating": lambda u: u**2.2,
    "braking": lambda u: 1 - (1 - u) ** 2.2,
}


def _composed(direction: str, path: str, speed: str, rng: np.random.Generator) -> _Pose:
    """A shape that moves in ``direction`` along ``path`` with the speed profile ``speed``."""
    pose = _still(rng, rng.uniform(0.45, 0.65))
    share = SPEEDS[speed](np.linspace(0, 1, FRAMES, dtype=np.float32))
    along = np.array(DIRECTIONS[direction]) * rng.uniform(0.6, 0.75)
    across = np.array([along[1], along[0]]) * rng.choice([-1, 1]) * rng.uniform(0.4, 0.5)
    offset = PATHS[path](share)
    moved = [
        side * (along[axis] * (share - 0.5) + across[axis] * (offset - offset.mean()))
        for axis, side in ((0, WIDTH), (1, HEIGHT))
    ]
    pose.x, pose.y = (
        (move + side * rng.uniform(0.42, 0.58)).astype(np.float32)
        for move, side in zip(moved, (WIDTH, HEIGHT))
    )
    return pose


def render_composition(
    direction: str, path: str, speed: str, rng: np.random.Generator
) -> np.ndarray:
    """A clip of a composed motion: uint8 ``24 96 128 3``."""
    return _render(lambda: _composed(direction, path, speed, rng), rng)


def render_clip(name: str, rng: np.random.Generator) -> np.ndarray:
    """A clip of class ``name``, the first class of a pair: uint8 ``24 96 128 3``."""
    return _render(lambda: _motion(name, rng), rng)


def _render(move: Callable[[], _Pose], rng: np.random.Generator) -> np.ndarray:
    """One moving shape and up to two shapes at rest over a drifting background."""
    margin = 24
    ground = _colour(rng)
    background = _texture(rng, HEIGHT + 2 * margin, WIDTH + 2 * margin, ground, 18.0)
    drift = rng.uniform(-0.35, 0.35, size=2)
    poses = [_still(rng, rng.uniform(0.3, 0.5)) for _ in range(int(rng.integers(0, 3)))]
    poses.append(move())
    shapes = [
        (_texture(rng, _PATCH, _PATCH, _colour(rng, unlike=ground), 38.0), _silhouette(rng), pose)
        for pose in poses
    ]
    shake = rng.normal(0, 0.35, size=(FRAMES, 2))
    clip = np.empty((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    for t in range(FRAMES):
        shift = margin + drift * (t - FRAMES / 2) + shake[t]
        view = np.array([[1.0, 0.0, -shift[0]], [0.0, 1.0, -shift[1]]])
        frame = cv2.warpAffine(background, view, (WIDTH, HEIGHT))
        for texture, mask, pose in shapes:
            _paste(frame, texture, mask, pose, t)
        noise = rng.normal(0, 2.0, size=(HEIGHT, WIDTH, 1)).astype(np.float32)
        clip[t] = np.clip(frame + noise, 0, 255).astype(np.uint8)
    return clip
