"""Conversion of a video to a folder of JPEG images, as Jester and Something-Something have."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import cv2

from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.files import make_dirs, short_hash
from slowfast.video import clip_ops
from slowfast.video.backends.frames import FIRST_FRAME
from slowfast.video.source import open_video

_IMAGES = (".jpg", ".jpeg", ".png")
_CHUNK_FRAMES = 256  # frames in memory at a time


def check_template(template: str) -> None:
    """UserError if the names of images are not different for different frames."""
    try:
        names = {template.format(number) for number in (1, 2)}
    except (ValueError, LookupError, AttributeError) as error:
        raise UserError(
            f"{template!r} is no template: {error}", "{:05d}.jpg", "--template"
        ) from None
    suffixes = {os.path.splitext(name)[1].lower() for name in names}
    if (
        len(names) < 2
        or not suffixes <= set(_IMAGES)
        or any(os.path.basename(n) != n for n in names)
    ):
        problem = f"{template!r} does not name one image per frame"
        raise UserError(problem, "write it like {:05d}.jpg", "--template")


def extract_frames(
    source: str, folder: str, short_side: int = 0, template: str = "{:05d}.jpg", quality: int = 95
) -> dict[str, Any]:
    """Write the frames of ``source`` as images in ``folder``.

    Returns ``frames`` and ``bytes``, or ``cause`` if that fails (with ``again`` if another try may
    succeed). The frames are those that reading the video gives; larger ones are resized to
    ``short_side`` pixels (0: unchanged). The folder is either complete or absent. One of another
    content is not replaced: that is a ``cause``, as a full disk is.
    """
    strange = _strange_content(folder)
    if strange:
        return {"cause": f"{folder} exists and holds {strange}: remove it first", "again": True}
    part = _new_part(folder)
    try:
        video = open_video(source)
        make_dirs(part)
        for start in range(0, video.num_frames, _CHUNK_FRAMES):
            indices = list(range(start, min(start + _CHUNK_FRAMES, video.num_frames)))
            (clip,) = video.clips([indices])
            if 0 < short_side < min(clip_ops.frame_size(clip)):
                clip = clip_ops.resize_short_side(clip, short_side, antialias=True)
            for index, frame in zip(indices, clip):
                _write(os.path.join(part, template.format(index + FIRST_FRAME)), frame, quality)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    except VideoError as error:
        shutil.rmtree(part, ignore_errors=True)
        return {"cause": " ".join(error.cause.split())}
    except (UserError, OSError) as error:  # the disk, not the video
        shutil.rmtree(part, ignore_errors=True)
        return {"cause": " ".join(str(error).split()), "again": True}
    return {"frames": video.num_frames, "bytes": sum(f.stat().st_size for f in _files(folder))}


def _new_part(folder: str) -> str:
    """A name beside ``folder`` for what becomes it; those of others, who were killed or have lost
    their connection, are removed: they would not finish."""
    start = os.path.join(os.path.dirname(folder), f".{short_hash(os.path.basename(folder))}")
    for left in glob.glob(f"{glob.escape(start)}.*part"):
        shutil.rmtree(left, ignore_errors=True)
    return f"{start}.{secrets.token_hex(4)}.part"


def _strange_content(folder: str) -> str:
    """The name of something in a folder that is no image, or of the folder if it is a link or a
    file; empty if it may be replaced."""
    if os.path.islink(folder) or os.path.isfile(folder):
        return os.path.basename(folder)
    if not os.path.isdir(folder):
        return ""
    with os.scandir(folder) as entries:
        strange = (e.name for e in entries if e.is_dir() or not e.name.lower().endswith(_IMAGES))
        return next(strange, "")


def _files(folder: str) -> list[Path]:
    return [path for path in Path(folder).iterdir() if path.is_file()]


def _write(path: str, frame: Any, quality: int) -> None:
    image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    if not cv2.imwrite(path, image, [cv2.IMWRITE_JPEG_QUALITY, quality]):
        raise UserError(f"{path} cannot be written", "is the disk full?")
