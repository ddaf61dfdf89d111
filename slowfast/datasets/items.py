"""The videos of a list: what every list format becomes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from slowfast.utils.files import short_hash


@dataclass(frozen=True, slots=True)
class Item:
    """One video: ``path`` of a file or frame folder, ``label``, ``num_frames`` (0: unknown), and
    the ``line`` of the list (0: unknown)."""

    path: str
    label: int
    num_frames: int = 0
    line: int = 0

    @property
    def labels(self) -> tuple[int, ...]:
        """All labels of the video."""
        return (self.label,)

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


@dataclass(frozen=True)
class ItemList:
    """The items of a split, the file or folder they come from, and the class names in label order
    (empty if unknown)."""

    items: list[Item]
    source: str
    class_names: list[str] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        """Number of videos and a hash of file names and labels: equal for equal copies of a set."""
        rows = (f"{os.path.basename(i.path)} {i.label_text}\n" for i in self.items)
        return f"{len(self.items)} videos, {short_hash(*rows)}"
