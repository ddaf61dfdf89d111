"""A video as a folder of JPEG images, the form of Jester and Something-Something."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import cv2

from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.files import make_dirs
from slowfast.video import clip_ops
from slowfast.video.backends.frames import FIRST_FRAME
from slowfast.video.source import open_video

_AT_ONCE = 256  # frames in memory


def extract_frames(
    source: str, folder: str, short_side: int = 0, template: str = "{:05d}.jpg", quality: int = 95
) -> dict[str, Any]:
    """Write the frames of ``source`` as images of ``folder``; gives facts, or a ``cause``.

    The same frames that reading the video gives; ``short_side`` in pixels makes larger ones
    smaller (0: as they are). The folder is either complete or not there.
    """
    part = f"{folder}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        video = open_video(source)
        make_dirs(part)
        for begin in range(0, video.num_frames, _AT_ONCE):
            numbers = list(range(begin, min(begin + _AT_ONCE, video.num_frames)))
            (clip,) = video.clips([numbers])
            if 0 < short_side < min(clip_ops.frame_size(clip)):
                clip = clip_ops.resize_short_side(clip, short_side, antialias=True)
            for number, frame in zip(numbers, clip):
                _write(os.path.join(part, template.format(number + FIRST_FRAME)), frame, quality)
    except (VideoError, UserError) as error:
        shutil.rmtree(part, ignore_errors=True)
        cause = error.cause if isinstance(error, VideoError) else str(error)
        return {"cause": " ".join(cause.split())}
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
    return {"frames": video.num_frames, "bytes": sum(f.stat().st_size for f in _files(folder))}


def _files(folder: str) -> list[Path]:
    return [path for path in Path(folder).iterdir() if path.is_file()]


def _write(path: str, frame: Any, quality: int) -> None:
    image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    if not cv2.imwrite(path, image, [cv2.IMWRITE_JPEG_QUALITY, quality]):
        raise UserError(f"{path} cannot be written", "is the disk full?")
