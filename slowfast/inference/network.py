"""A trained network as its arguments, from which any process can load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slowfast.inference.predictor import Predictor, load
from slowfast.inference.trained import read_trained
from slowfast.utils.map import file_stamp


@dataclass(frozen=True)
class Network:
    """Arguments of :func:`slowfast.load` that another process understands."""

    checkpoint: str
    device: str | None = None
    cfg: str | Mapping[str, Any] | None = None
    classes: str | list[str] | None = None
    support: Mapping[str, Sequence[str]] | None = None
    overrides: Sequence[str] = ()

    def load(self) -> Predictor:
        """The network."""
        return load(
            self.checkpoint,
            self.device,
            cfg=self.cfg,
            classes=self.classes,
            support=self.support,
            overrides=self.overrides,
        )

    def options(self) -> dict[str, Any]:
        """What its answers depend on, for a journal: also which contents its files have."""
        path = str(read_trained(self.checkpoint).path)
        clips = [clip for clips in (self.support or {}).values() for clip in clips]
        named = [name for name in (self.cfg, self.classes) if isinstance(name, str)]
        facts = {"checkpoint": path, "cfg": self.cfg, "classes": self.classes}
        facts |= {"overrides": self.overrides, "support": self.support}
        return facts | {"files": {name: file_stamp(name) for name in [path, *named, *clips]}}
