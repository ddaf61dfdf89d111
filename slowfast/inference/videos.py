"""What a person may call a video: a path, an address, an open file, bytes, a folder, frames."""

from __future__ import annotations

import contextlib
import io
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
import torch

from slowfast.datasets.clip_reader import ClipReader
from slowfast.datasets.lists import Item
from slowfast.utils.addresses import check_address, is_address
from slowfast.utils.errors import UserError, VideoError
from slowfast.video.backends.frames import SortedImages
from slowfast.video.backends.memory import MemorySource
from slowfast.video.source import Source

# Frames are uint8 RGB ``T H W 3``: an array, a tensor, or a list of arrays ``H W 3``.
Frames = np.ndarray | torch.Tensor | Sequence[np.ndarray]
Video = str | os.PathLike[str] | IO[bytes] | bytes | Frames


def is_one_video(value: Any) -> bool:
    """Whether a value is one video, not several: a list is, if it holds frames ``H W 3``."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(getattr(item, "ndim", 0) == 3 for item in value)
    return True


def name_of(video: Video) -> str:
    """What messages and results call a video: its path or address; a kind, where it has none."""
    if isinstance(video, (str, os.PathLike)):
        return os.fspath(video)
    if isinstance(video, (bytes, bytearray, memoryview)):
        return f"{len(video)} bytes"
    name = getattr(video, "name", None)
    if isinstance(name, str):
        return name
    return "an open file" if hasattr(video, "read") else "frames in memory"


@contextlib.contextmanager
def open_any(video: Video, reader: ClipReader, fps: float) -> Iterator[Source]:
    """The source of a video of any form, read as ``reader`` reads those of lists.

    ``fps``: of frames in memory and of folders of frames. VideoError if it cannot be read;
    UserError if it is no video at all, such as a number.
    """
    if not 0 < fps < math.inf:
        raise UserError(f"is {fps}", "give the frames per second of the video", "fps")
    name = name_of(video)
    if isinstance(video, (str, os.PathLike)):
        if is_address(name):
            check_address(name, "videos")
            yield reader.open(Item(name, 0))
        else:
            path = os.path.expanduser(name)
            is_folder = os.path.isdir(path)
            yield _open_folder(path, reader, fps) if is_folder else reader.open(Item(path, 0))
    elif isinstance(video, (bytes, bytearray, memoryview)) or hasattr(video, "read"):
        with _as_file(video, name) as path:
            yield reader.open(Item(path, 0))
    else:
        yield MemorySource(_frames(video), fps, name, reader.data.MAX_PIXELS)


def _open_folder(path: str, reader: ClipReader, fps: float) -> Source:
    """Frames that are numbered as DATA.IMAGE_TEMPLATE says, else all images by name."""
    try:
        source = reader.open(Item(path, 0))
    except VideoError:
        return SortedImages(path, fps, reader.data.MAX_PIXELS)
    source.fps = fps
    return source


@contextlib.contextmanager
def _as_file(video: Any, name: str) -> Iterator[str]:
    """The path of a temporary file with the bytes of a video: decoders seek, and open it anew."""
    if isinstance(video, io.TextIOBase):
        raise UserError(f"{name} is open as text", "open it in binary mode, 'rb'", "videos")
    with tempfile.NamedTemporaryFile(prefix="slowfast-") as file:
        if hasattr(video, "read"):
            shutil.copyfileobj(video, file)
        else:
            file.write(video)
        file.flush()
        try:
            yield file.name
        except VideoError as error:
            raise VideoError(name, error.cause) from error


def _frames(video: Any) -> np.ndarray | list[np.ndarray]:
    if isinstance(video, torch.Tensor):
        video = video.detach().cpu().numpy()
    if isinstance(video, np.ndarray):
        if video.ndim == 4 and video.shape[-1] != 3 and video.shape[1] == 3:
            video = video.transpose(0, 2, 3, 1)  # T 3 H W, as some decoders give
        return video
    if isinstance(video, (list, tuple)) and all(hasattr(frame, "ndim") for frame in video):
        return [np.asarray(frame) for frame in video]
    raise UserError(
        f"a {type(video).__name__} is not a video",
        "give a path, an open file, bytes, or frames T H W 3 as an array or a tensor; several "
        "videos as a list to predict or embed, as anything else to stream",
        "videos",
    )
