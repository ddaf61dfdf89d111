"""Heat maps, tokens and titles drawn over frames, and small animated pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import numpy as np

from slowfast.utils.errors import UserError
from slowfast.utils.plotting import require_matplotlib

_OPACITY = 0.65  # of the hottest places; a frame shows through unchanged where the map is 0
_TITLE = 22  # pixels of a line of a title
_COLOURS = 12


def colormap(name: str, key: str = "--colormap") -> np.ndarray:
    """RGB ``256 3`` of a colour map of OpenCV (turbo, viridis, jet …) or of Matplotlib.

    UserError if there is none of that name, or Matplotlib, which has the others, is missing.
    """
    code = getattr(cv2, f"COLORMAP_{name.upper()}", None)
    if code is not None:
        ramp = np.arange(256, dtype=np.uint8)[:, None]
        return cv2.applyColorMap(ramp, code)[:, 0, ::-1]
    maps = require_matplotlib(key=key).colormaps
    if name not in maps:
        raise UserError(f"there is no colour map {name!r}", "try turbo or viridis", key)
    return (maps[name](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)


def draw_heat(frames: np.ndarray, maps: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """uint8 frames ``T H W 3`` under ``maps`` ``T H W`` (0..1) in the colours ``256 3``."""
    heat = colours[(maps.clip(0, 1) * 255).round().astype(np.uint8)]
    opacity = _OPACITY * maps[..., None].clip(0, 1)
    return (frames * (1 - opacity) + heat * opacity).round().astype(np.uint8)


def enlarge(frames: np.ndarray, side: int) -> np.ndarray:
    """uint8 ``T H W 3`` enlarged by a whole factor, so that the short side has ``side`` pixels or
    the number nearest to it; never made smaller."""
    factor = max(1, round(side / min(frames.shape[1:3])))
    size = (frames.shape[2] * factor, frames.shape[1] * factor)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in frames])


def draw_tokens(frames: np.ndarray, centres: np.ndarray, steps: Sequence[int], size: int) -> None:
    """Squares of ``size`` pixels around ``centres`` ``T' N 2`` (x, y), in place on ``T H W 3``.

    ``steps``: first frame of each of the T' positions, which stands until the next one. Each token
    has a colour of its own and a line along the places where it was before. Squares of tokens at
    one place stand inside one another.
    """
    ends = [*steps[1:], len(frames)]
    palette = _palette(centres.shape[1])
    for step, (first, end) in enumerate(zip(steps, ends)):
        for frame in frames[first:end]:
            for token, colour in enumerate(palette):
                path = centres[: step + 1, token].round().astype(np.int32)
                cv2.polylines(frame, [path], False, colour, 1, cv2.LINE_AA)
            for token, colour in enumerate(palette):
                centre = centres[step, token]
                inside = 2 * int((centres[step, :token] == centre).all(-1).sum())
                half = max(size // 2 - inside, 2)
                corner = (centre - half).round().astype(int).tolist()
                opposite = (centre + half - 1).round().astype(int).tolist()
                cv2.rectangle(frame, corner, opposite, colour, 1, cv2.LINE_AA)


def _palette(count: int) -> list[tuple[int, int, int]]:
    hues = np.arange(count) * 180 / max(min(count, _COLOURS), 1) % 180
    hsv = np.stack([hues, np.full(count, 200), np.full(count, 255)], axis=-1).astype(np.uint8)
    return [tuple(map(int, c)) for c in cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]]


def add_title(
    frames: np.ndarray, lines: Sequence[str], colours: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """uint8 ``T H W 3`` with lines of text above, black on white or on the colour of each line; a
    long line is written smaller."""
    width = frames.shape[2]
    head = np.full((_TITLE * len(lines), width, 3), 255, np.uint8)
    for number, colour in enumerate(colours):
        head[_TITLE * number : _TITLE * (number + 1)] = colour
    for number, line in enumerate(lines):
        # OpenCV crashes at names of files that are not UTF-8.
        line = line.encode(errors="backslashreplace").decode()
        (needed, _), _ = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
        scale = 0.45 * min(1, (width - 8) / max(needed, 1))
        place = (4, _TITLE * number + 15)
        cv2.putText(head, line, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([np.broadcast_to(head, (len(frames), *head.shape)), frames], axis=1)


def animated(frames: np.ndarray, fps: float, kind: str = "GIF") -> bytes:
    """uint8 ``T H W 3`` -> an endless animated picture, ``GIF`` or ``WEBP``."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    if kind == "GIF":
        # One palette for all frames, so that the background does not flicker.
        palette = Image.fromarray(np.concatenate(list(frames))).quantize(256)
        images = [image.quantize(palette=palette) for image in images]
    file = io.BytesIO()
    options = {"quality": 85, "method": 4} if kind == "WEBP" else {"optimize": False}
    images[0].save(
        file,
        kind,
        save_all=True,
        append_images=images[1:],
        duration=round(1000 / fps),
        loop=0,
        **options,
    )
    return file.getvalue()
