"""A trained network as its arguments, from which any process can load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slowfast.inference.predictor import Predictor, load


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
