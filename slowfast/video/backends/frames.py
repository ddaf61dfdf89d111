"""Frame folders: one image per frame, as Something-Something and Jester are distributed."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image

from slowfast.utils.errors import VideoError
from slowfast.video.source import IMAGE_SUFFIXES, MAX_PIXELS, Source, as_it_is, check_pixels

T = TypeVar("T")

FIRST_FRAME = 1  # published frame folders count from 1


class FrameFolder(Source):
    """The images ``template.format(n, video=<folder name>)``, n from 1, of a folder.

    ``num_frames`` comes from the list; without it the images of the folder are counted.
    VideoError if the folder does not exist or holds no such image.
    """

    def __init__(
        self,
        path: str,
        template: str,
        num_frames: int | None = None,
        fps: float = 30.0,
        max_pixels: int = MAX_PIXELS,
    ):
        self.path, self.template, self.fps = path, template, fps
        self._max_pixels = max_pixels
        self._video = os.path.basename(os.path.normpath(path))
        if not os.path.isdir(path):
            raise VideoError(path, "there is no such folder of frames")
        with_folder_name = "{video}_" + template
        if not self._exists(template) and self._exists(with_folder_name):
            self.template = with_folder_name  # STFM's frames repeat the folder's name
        self.num_frames = num_frames if num_frames else self._count()
        if self.num_frames == 0:
            raise VideoError(path, f"no image {self._name(0)} in it (DATA.IMAGE_TEMPLATE)")

    def _name(self, index: int) -> str:
        """The name of an image, counted from 0."""
        return self._format(self.template, index)

    def _format(self, template: str, index: int) -> str:
        return template.format(index + FIRST_FRAME, video=self._video)

    def _exists(self, template: str) -> bool:
        return os.path.exists(os.path.join(self.path, self._format(template, 0)))

    def _count(self) -> int:
        present = set(os.listdir(self.path))
        count = 0
        while self._name(count) in present:
            count += 1
        return count

    @property
    def pixels(self) -> int:
        """Number of pixels of the first image; 0 if it cannot be read."""
        width, height = self._size_of(os.path.join(self.path, self._name(0)))
        return width * height

    def decode(
        self, indices: list[int], work: Callable[[np.ndarray], T] = as_it_is
    ) -> dict[int, T]:
        return {index: work(self._read(index)) for index in indices}

    def _read(self, index: int) -> np.ndarray:
        name = os.path.join(self.path, self._name(index))
        if not os.path.exists(name):  # OpenCV would print a warning of its own
            raise VideoError(self.path, f"{self._name(index)} is missing")
        check_pixels(name, *self._size_of(name), self._max_pixels)
        image = cv2.imread(name, cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise VideoError(self.path, f"{self._name(index)} is not a readable image")
        return image

    def _size_of(self, name: str) -> tuple[int, int]:
        """(width, height) of an image from its head, before memory is taken for its pixels; zeros
        if it is none, for the decoder to say what is wrong."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # this is the check
                with Image.open(name) as image:
                    return image.size
        except Image.DecompressionBombError as error:
            raise VideoError(name, f"more than DATA.MAX_PIXELS: {error}") from error
        except OSError:
            return 0, 0


class NamedFrames(FrameFolder):
    """The images ``names`` of a folder, in this order. VideoError if there is no such folder."""

    def __init__(
        self, path: str, names: Sequence[str], fps: float = 30.0, max_pixels: int = MAX_PIXELS
    ):
        if not os.path.isdir(path):
            raise VideoError(path, "there is no such folder of frames")
        self.path, self.names, self.fps = path, names, fps
        self.num_frames, self._max_pixels = len(names), max_pixels

    def _name(self, index: int) -> str:
        return self.names[index]


class SortedImages(NamedFrames):
    """All images of a folder in the order of their names, numbers in them by size: ``f2`` before
    ``f10``. VideoError if there are none."""

    def __init__(self, path: str, fps: float = 30.0, max_pixels: int = MAX_PIXELS):
        names = [name for name in os.listdir(path) if name.lower().endswith(IMAGE_SUFFIXES)]
        if not names:
            raise VideoError(path, f"no images in it ({' '.join(IMAGE_SUFFIXES)})")
        super().__init__(path, sorted(names, key=_by_numbers), fps, max_pixels)


def _by_numbers(name: str) -> list[tuple[int, str]]:
    """A key that compares the numbers in names by their size."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
