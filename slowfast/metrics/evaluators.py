"""Evaluators: scores and labels of batches -> metrics over a whole pass.

An evaluator knows no network, no device and no configuration, so that it also runs over scores
that were saved. ``tools/`` and loops only use the contract :class:`Evaluator`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from slowfast.metrics.average_precision import mean_average_precision
from slowfast.metrics.classes import ClassFigures
from slowfast.metrics.topk import meaningful_ks, topk_counts, unmix
from slowfast.metrics.views import VideoScores, merge_views
from slowfast.utils.errors import UserError
from slowfast.utils.registry import Registry

# (scores N classes, labels N, or N classes with DATA.MULTI_LABEL) -> a number; a name that ends in
# _err is better when lower.
Metric = Callable[[torch.Tensor, torch.Tensor], float]
METRIC_REGISTRY: Registry[Metric] = Registry("metric", "TEST.METRICS")


class LabelledBatch(Protocol):
    """What an evaluator reads of a batch: ``label`` ``B`` (several labels a video: ``B classes``),
    ``index`` ``B``, a path each, and the facts of its episodes (None outside of few-shot tasks)."""

    label: torch.Tensor
    index: torch.Tensor
    path: Sequence[str]
    episode: Any


@dataclass(frozen=True)
class EvalResult:
    """Figures of a pass: ``metrics`` by name, the ``score`` that the best checkpoint is chosen by
    (higher is better), and the number of ``items`` that were evaluated (``unit``: what they are).
    """

    metrics: dict[str, float]
    score: float
    items: int
    unit: str = "videos"


def is_error(metric: str) -> bool:
    """Whether a metric is better when lower: its name ends in ``_err``."""
    return metric.endswith("_err")


class Evaluator(Protocol):
    """Collects scores over a pass."""

    def update(self, scores: torch.Tensor, batch: LabelledBatch) -> dict[str, float]:
        """Take the scores of a batch; gives the figures of this batch."""
        ...

    def merge(self, other: Evaluator) -> None:
        """Take over what another process has collected, each item once."""
        ...

    def compute(self) -> EvalResult:
        """The figures over everything; UserError if there is nothing."""
        ...


def class_scores(evaluator: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Scores ``N classes`` and labels ``N`` of all videos of an evaluator that has them (a method
    ``class_scores``), None for others and before the first video."""
    return evaluator.class_scores() if hasattr(evaluator, "class_scores") else None


def error_figures(scores: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """Top-1 and top-5 error in percent of ``B classes`` and labels ``B``, or mixed targets
    ``B classes``: scalars in double precision on the device of the scores.

    Of five classes or fewer there is no top-5 error: it would always be 0.
    """
    if targets.ndim == 2:
        scores, targets = unmix(scores, targets)
    ks = meaningful_ks(scores.shape[1])
    shares = topk_counts(scores, targets, ks).double() / len(targets)
    return {f"top{k}_err": error for k, error in zip(ks, (100.0 * (1 - shares)).unbind())}


@dataclass
class ViewEvaluator:
    """Scores of the views of every video, merged per video by ``method`` (sum or max).

    ``metrics`` are names of further metrics; see :data:`METRIC_REGISTRY`.
    """

    method: str = "sum"
    metrics: Sequence[str] = ()
    videos: VideoScores = field(init=False)
    paths: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.videos = VideoScores(self.method)

    def update(self, scores: torch.Tensor, batch: LabelledBatch) -> dict[str, float]:
        """Scores ``videos views classes`` of a batch."""
        scores = scores.cpu()
        rows = zip(scores, batch.index.tolist(), batch.label.tolist(), batch.path)
        for row, index, label, path in rows:
            self.videos.add(index, label, row)
            self.paths[index] = path
        return self.batch_figures(merge_views(scores, self.method), batch.label.cpu())

    def batch_figures(self, scores: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
        """Figures of a batch, from merged scores ``B classes`` and its labels."""
        figures = error_figures(scores, labels)
        return {name: float(value) for name, value in figures.items()}

    def merge(self, other: ViewEvaluator) -> None:
        self.videos.update(other.videos)
        self.paths |= other.paths

    def class_scores(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Merged scores ``N classes`` and labels ``N`` in the order of the list; None: no video."""
        return self.videos.tensors()[1:] if len(self.videos) else None

    def compute(self) -> EvalResult:
        """``top1_err`` and, of more than five classes, ``top5_err`` in percent, and the chosen
        metrics; the score is the top-1 accuracy in percent."""
        if not len(self.videos):
            raise UserError("no video could be read", "see the warnings above")
        _, scores, labels = self.videos.tensors()
        ks = meaningful_ks(scores.shape[1])
        accuracies = self.videos.accuracies(ks)
        figures = {f"top{k}_err": 100 - value for k, value in zip(ks, accuracies)}
        figures |= {name: METRIC_REGISTRY.get(name)(scores, labels) for name in self.metrics}
        return EvalResult(figures, accuracies[0], len(self.videos))


class MultiLabelEvaluator(ViewEvaluator):
    """Mean average precision of videos with any number of labels each: ``B classes`` in a batch.

    It is no mean over videos, so that batches have no figures of their own.
    """

    def class_scores(self) -> None:
        """None: there is no one true class of a video."""

    def batch_figures(self, scores: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
        return {}

    def compute(self) -> EvalResult:
        """``map``, between 0 and 1 as PySlowFast reports it, over the classes that occur, and the
        chosen metrics; the score is ``map``. UserError if no video has a label."""
        if not len(self.videos):
            raise UserError("no video could be read", "see the warnings above")
        _, scores, labels = self.videos.tensors()
        if not labels.any():
            raise UserError(
                f"none of the {len(labels)} videos has a label", "mean average precision needs some"
            )
        figures = {"map": mean_average_precision(scores.numpy(), labels.numpy())}
        figures |= {name: METRIC_REGISTRY.get(name)(scores, labels) for name in self.metrics}
        return EvalResult(figures, figures["map"], len(self.videos))


@METRIC_REGISTRY.register("mean_class_accuracy")
def mean_class_accuracy(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean over the classes that have videos of their top-1 accuracy, in percent."""
    figures = ClassFigures.of_scores(scores, labels)
    return figures.mean(figures.recall)
