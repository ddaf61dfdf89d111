"""The videos of a list: what every list format becomes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from slowfast.utils.files import short_hash
from slowfast.utils.remote_file import Extent


@dataclass(frozen=True, slots=True)
class Item:
    """One video: ``path`` of a file or frame folder, ``label``, ``num_frames`` (0: unknown), and
    the ``line`` of the list (0: unknown). ``extent``: the part of a file that it is, where ``path``
    only names it (a video in a shard)."""

    path: str
    label: int
    num_frames: int = 0
    line: int = 0
    extent: Extent | None = field(default=None, kw_only=True)

    @property
    def place(self) -> str:
        """The path or address of the file that is read."""
        return self.extent.file if self.extent else self.path

    @property
    def labels(self) -> tuple[int, ...]:
        """All labels of the video."""
        return (self.label,)

    def relabelled(self, labels: Sequence[int | None]) -> Item | None:
        """The video with other numbers of the classes, old number -> new one (None: a class that
        is not known); None if it shows no class that is known."""
        new = labels[self.label]
        return None if new is None else replace(self, label=new)

    @property
    def label_text(self) -> str:
        """The labels as a text that identifies them."""
        return str(self.label)

    @property
    def image_names(self) -> list[str]:
        """Names of the images of a frame folder where the list gives them."""
        return []

    def labels_between(self, first: int, last: int) -> tuple[int, ...]:
        """The labels of the frames from ``first`` to ``last``."""
        return self.labels


class HasPlace(Protocol):
    """An item, or what stands for one that cannot be read."""

    path: str
    line: int


def locate(source: str, item: HasPlace) -> str:
    """Where a video stands, for messages: ``list.csv:12: a.mp4``; its path alone, if it is in a
    folder, which has no lines."""
    return f"{source}:{item.line}: {item.path}" if item.line else item.path


@dataclass(frozen=True)
class ItemList:
    """The items of a split, the file or folder they come from, and the class names in label order
    (empty if unknown); ``left_out``: videos of classes that the tested weights do not know."""

    items: list[Item]
    source: str
    class_names: list[str] = field(default_factory=list)
    left_out: int = 0

    @property
    def fingerprint(self) -> str:
        """Number of videos and a hash of file names and labels: equal for equal copies of a set."""
        rows = (f"{os.path.basename(i.path)} {i.label_text}\n" for i in self.items)
        return f"{len(self.items)} videos, {short_hash(*rows)}"
