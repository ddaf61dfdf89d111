"""Pictures of an evaluation: confusion matrices and histograms of predictions, by class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from slowfast.config.node import CfgNode
from slowfast.engine.tensorboard.classes import ClassFiles, ShownClasses
from slowfast.engine.tensorboard.figures import FIGURE, confusion_figure, histogram_figure
from slowfast.metrics.classes import confusion_matrix
from slowfast.metrics.topk import predicted_classes
from slowfast.utils.plotting import require_matplotlib


class Picture(NamedTuple):
    """RGB ``H W 3`` under a ``tag`` of TensorBoard."""

    tag: str
    image: np.ndarray


class EvaluationPictures:
    """Draws what CONFUSION_MATRIX and HISTOGRAM of the section TENSORBOARD choose.

    UserError at construction if a file cannot be read or Matplotlib is missing.
    """

    def __init__(self, cfg: CfgNode):
        self.confusion = cfg.TENSORBOARD.CONFUSION_MATRIX
        self.histogram = cfg.TENSORBOARD.HISTOGRAM
        chosen = self.confusion.ENABLE or self.histogram.ENABLE
        self.enabled = cfg.TENSORBOARD.ENABLE and chosen
        if self.enabled:
            part = "CONFUSION_MATRIX" if self.confusion.ENABLE else "HISTOGRAM"
            require_matplotlib(FIGURE, f"TENSORBOARD.{part}.ENABLE")
            self.files = ClassFiles(cfg)

    def draw(
        self, scores: torch.Tensor, labels: torch.Tensor, names: Sequence[str]
    ) -> Iterator[Picture]:
        """Scores ``N classes``, labels ``N`` and the classes' names (empty: unknown) -> pictures
        under PySlowFast's tags."""
        classes = self.files.shown(names, scores.shape[1])
        names = classes.names
        counts = confusion_matrix(predicted_classes(scores), labels, len(names))
        shares = (counts / counts.sum(1, keepdim=True).clamp_min(1)).numpy()
        if self.confusion.ENABLE:
            yield self._matrix("Confusion Matrix", shares, list(range(len(names))), names)
            if classes.confusion:
                yield self._matrix("Confusion Matrix Subset", shares, classes.confusion, names)
            for category, chosen in classes.categories.items():
                tag = f"Confusion Matrices Grouped by Parent Classes/{category}"
                yield self._matrix(tag, shares, chosen, names)
        if self.histogram.ENABLE:
            yield from self._histograms(shares, classes)

    def _matrix(
        self, tag: str, shares: np.ndarray, chosen: list[int], names: Sequence[str]
    ) -> Picture:
        names = [names[label] for label in chosen]
        part = shares[np.ix_(chosen, chosen)]
        title = tag.rsplit("/", 1)[-1]
        return Picture(tag, confusion_figure(part, names, self.confusion.FIGSIZE, title))

    def _histograms(self, shares: np.ndarray, classes: ShownClasses) -> Iterator[Picture]:
        names, chosen = classes.names, classes.histograms
        count = min(self.histogram.TOPK, len(names))
        for label in range(len(names)) if chosen is None else chosen:
            best = np.argsort(-shares[label], kind="stable")[:count]
            predicted = [names[index] for index in best]
            image = histogram_figure(
                shares[label][best], predicted, self.histogram.FIGSIZE, names[label]
            )
            tag = f"Top {self.histogram.TOPK} predictions by classes/{names[label]}"
            yield Picture(tag, image)
