"""Supervised recognition: a clip has one label out of a fixed set."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.datasets.batch import Batch
from slowfast.datasets.build import build_dataset, dataset_class
from slowfast.datasets.checks import warn_overlap
from slowfast.datasets.clip_reader import Views
from slowfast.datasets.lists import ItemList
from slowfast.datasets.loader import Loader, construct_loader, views_per_process
from slowfast.engine.distillation import Distillation
from slowfast.engine.losses import build_loss
from slowfast.engine.network import build_network
from slowfast.engine.result_files import ScoreTable, write_recognition, write_scores
from slowfast.engine.sharding import unwrap
from slowfast.engine.tasks.base import TASK_REGISTRY, Inputs, LossOutput, Task, TestRun
from slowfast.engine.tasks.inference import RecognitionInference
from slowfast.metrics.evaluators import (
    EvalResult,
    ViewEvaluator,
    error_figures,
    is_error,
    mean_class_accuracy,
)
from slowfast.metrics.sanity import sanity_warnings
from slowfast.metrics.topk import KS
from slowfast.models.base import MODEL_REGISTRY, resolve_aux_losses
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import Runtime
from slowfast.utils.seeding import sample_rng
from slowfast.video.device import Normalizer, build_normalizer
from slowfast.video.mixup import Mixup

logger = get_logger(__name__)

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "softmax": lambda x: x.softmax(-1),
    "sigmoid": torch.sigmoid,
    "none": lambda x: x,
}


class RecognitionData:
    """Lists of videos with one label each."""

    def __init__(self, cfg: CfgNode, runtime: Runtime):
        self.cfg, self.runtime = cfg, runtime
        self._lists: dict[str, ItemList] = {}
        self._known: dict[str, list[str]] = {}  # classes whose labels the list of a split has

    def item_list(self, split: str) -> ItemList:
        """The checked list of a split, which is read once."""
        if split not in self._lists:
            known = self._known.get(split, [])
            self._lists[split] = dataset_class(self.cfg, split).load_list(self.cfg, split, known)
        return self._lists[split]

    def match_classes(self, checkpoint_names: Sequence[str]) -> None:
        """The list of the test gets the labels of the checkpoint's classes, by their names."""
        self._use_classes("test", checkpoint_names)

    def _use_classes(self, split: str, names: Sequence[str]) -> None:
        if MODEL_REGISTRY.get(self.cfg.MODEL.MODEL_NAME).spec.open_vocabulary:
            return  # its outputs are the classes of the list, whatever it was trained on
        if list(names) != self._known.get(split, []):
            self._known[split] = list(names)
            self._lists.pop(split, None)

    def class_names(self, split: str) -> list[str]:
        return self.item_list(split).class_names

    def check(self) -> None:
        splits = ["train", "val"] if self.cfg.TRAIN.ENABLE else []
        splits += ["test"] if self.cfg.TEST.ENABLE else []
        if self.cfg.TRAIN.ENABLE:
            for split in splits[1:]:  # the weights will have the classes of the training
                self._use_classes(split, self.item_list("train").class_names)
        lists = {split: self.item_list(split) for split in splits}
        for split in sorted(set(splits) - {"train"}):
            if "train" in lists and self.runtime.is_main:
                warn_overlap(lists["train"], lists[split])

    def loader(self, split: str, views: Views | None = None) -> Loader:
        """``views``: of a test video, where they are not those of the configuration."""
        dataset = build_dataset(self.cfg, split, views, self.item_list(split))
        return construct_loader(self.cfg, split, self.runtime, dataset)

    def tests(self) -> Iterator[TestRun]:
        """A test for each number of temporal clips; a loader is made when its test begins."""
        test = self.cfg.TEST
        for count in list(test.NUM_TEMPORAL_CLIPS) or [test.NUM_ENSEMBLE_VIEWS]:
            views = Views(count, test.NUM_SPATIAL_CROPS)
            tag = f"{views.clips}x{views.crops}"
            yield TestRun(f"{tag} views", self.loader("test", views), tag)


class RecognitionModule:
    """Clips -> logits, their loss, and scores of views."""

    def __init__(self, cfg: CfgNode, runtime: Runtime, data: RecognitionData):
        self.cfg, self.runtime, self.data = cfg, runtime, data
        classes, mix = cfg.MODEL.NUM_CLASSES, cfg.MIXUP
        self._loss = build_loss(cfg, classes)
        self._mixup = None
        if mix.ENABLE:
            self._mixup = Mixup(
                mix.ALPHA,
                mix.CUTMIX_ALPHA,
                mix.PROB,
                mix.SWITCH_PROB,
                mix.LABEL_SMOOTH_VALUE,
                classes,
            )
        distils = cfg.SOLVER.KD and cfg.TRAIN.ENABLE
        self._distillation = Distillation(cfg, runtime.device) if distils else None
        self._activation = _ACTIVATIONS[cfg.MODEL.HEAD_ACT]
        self._views_at_once = views_per_process(cfg, runtime.local_world)
        self.normalizer = functools.cache(self._build_normalizer)

    def build_model(self) -> nn.Module:
        return build_network(self.cfg, self.runtime.device)

    def begin(self, model: nn.Module, split: str) -> None:
        unwrap(model).begin(split)

    def _build_normalizer(self, split: str) -> Normalizer:
        """What brings the clips of a split into the form that the network expects."""
        expected = MODEL_REGISTRY.get(self.cfg.MODEL.MODEL_NAME).spec.input_format(self.cfg)
        published_bgr = dataset_class(self.cfg, split).published_bgr
        return build_normalizer(self.cfg, published_bgr, expected)

    def prepare(self, batch: Batch, split: str, step: int = 0) -> Inputs:
        """Normalised clips ``B 3 T H W`` on the device (test: all views), in training mixed."""
        device, test = self.runtime.device, split == "test"
        video = batch.video.flatten(0, 1) if test else batch.video
        video = self.normalizer(split)(video, device, batch.boxes)
        targets = batch.label.to(device, non_blocking=True)
        if split == "train" and self._mixup is not None:
            rng = sample_rng(self.cfg.RNG_SEED, step, int(batch.index[0]), "mixup")
            video, targets = self._mixup(video, targets, rng)
        return Inputs(video, targets, batch.size, self._views_at_once if test else None)

    def loss(self, model: nn.Module, inputs: Inputs) -> LossOutput:
        logits, aux = model(inputs.video, with_losses=True)
        aux = resolve_aux_losses(aux, lambda further: self._loss(further, inputs.targets))
        loss = self._loss(logits, inputs.targets) + sum(aux.values())
        if self._distillation is not None:
            loss = self._distillation(loss, logits, inputs.video)
        stats = {name: value.detach() for name, value in aux.items()}
        stats |= self.figures(logits.detach(), inputs.targets)
        return LossOutput(loss, inputs.size, stats)

    def figures(self, logits: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Figures of a training batch for the log: scalars on the device."""
        return error_figures(logits, targets)

    def predict(self, model: nn.Module, inputs: Inputs) -> torch.Tensor:
        """Scores ``videos views classes``; a test video may have more views than fit at once."""
        parts = inputs.video.split(inputs.views_at_once or len(inputs.video))
        logits = torch.cat([model(part) for part in parts])
        return self.activate(logits).unflatten(0, (inputs.size, -1))

    def activate(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits of the network -> scores, both ``B classes``."""
        return self._activation(logits.float())

    def picture(self, inputs: Inputs, split: str) -> torch.Tensor:
        return self.normalizer(split).picture(inputs.video)


class RecognitionReport:
    """Accuracy over videos, predictions and scores."""

    def __init__(self, cfg: CfgNode, data: RecognitionData):
        self.cfg, self.data = cfg, data

    def evaluator(self, split: str) -> ViewEvaluator:
        method = self.cfg.DATA.ENSEMBLE_METHOD if split == "test" else "sum"
        return ViewEvaluator(method, tuple(self.cfg.TEST.METRICS))

    def figures(self, result: EvalResult, unreadable: int, total: int) -> dict[str, float]:
        """``top1_acc``, ``top5_acc``, the chosen metrics; with unreadable videos also
        ``top1_acc_with_bad``, which counts them as wrong."""
        figures = {
            _accuracy_name(name): 100 - value if is_error(name) else value
            for name, value in result.metrics.items()
        }
        if unreadable:
            figures["top1_acc_with_bad"] = result.score * result.items / total
        return figures

    def describe(
        self, result: EvalResult, unreadable: int, total: int
    ) -> tuple[str, dict[str, Any]]:
        figures = self.figures(result, unreadable, total)
        entries: dict[str, Any] = {name: f"{value:.2f}" for name, value in figures.items()}
        top = [f"top-{k} {entries[f'top{k}_acc']} %" for k in KS if f"top{k}_acc" in entries]
        text = f"{', '.join(top)} of {result.items} videos"
        text += "".join(
            f", {name} {entries[name]}" for name in result.metrics if not is_error(name)
        )
        if unreadable:
            with_bad = entries["top1_acc_with_bad"]
            text += f"; {unreadable} could not be read, counted as wrong: {with_bad} %"
        return text, entries | {"videos": result.items}

    def write(self, test: TestRun, evaluator: ViewEvaluator, folder: Path) -> dict[str, Any]:
        """Predictions, figures of the classes, confusion matrix and scores, and the file that
        TEST.SAVE_RESULTS_PATH names; warnings about odd predictions."""
        cfg = self.cfg
        names = self.data.class_names("test")
        table = ScoreTable.collect(evaluator, names, cfg.MODEL.HEAD_ACT)
        write_recognition(table, folder)
        for text in sanity_warnings(table.scores, table.labels):
            logger.warning("%s", text)
        self.save_scores(table, test)
        accuracy = mean_class_accuracy(table.scores, table.labels)
        return {
            "figures": {"mean_class_accuracy": accuracy},
            "scores": table.facts(),
            "classes": table.names,
        }

    def save_scores(self, table: ScoreTable, test: TestRun) -> None:
        """The file that TEST.SAVE_RESULTS_PATH names, if it names one."""
        cfg = self.cfg
        if cfg.TEST.SAVE_RESULTS_PATH:
            path = Path(cfg.OUTPUT_DIR) / cfg.TEST.SAVE_RESULTS_PATH
            tag = f"_{test.tag}" if cfg.TEST.NUM_TEMPORAL_CLIPS else ""
            # The last of several tests stands under the plain name, too.
            for name in {path.name, f"{path.stem}{tag}{path.suffix}"}:
                write_scores(table.scores, table.labels, path.with_name(name))


def _accuracy_name(metric: str) -> str:
    return f"{metric.removesuffix('_err')}_acc" if is_error(metric) else metric


@TASK_REGISTRY.register("recognition")
class RecognitionTask(Task):
    """Supervised recognition; see :class:`slowfast.engine.tasks.base.Task`."""

    data_class = RecognitionData
    module_class = RecognitionModule
    report_class = RecognitionReport
    inference_class = RecognitionInference

    def tests(self, model: nn.Module) -> Iterator[TestRun]:
        return self.data.tests()

    @classmethod
    def fit_classes(cls, cfg: CfgNode, checkpoint_names: Sequence[str]) -> CfgNode:
        """MODEL.NUM_CLASSES as in the weights: the list may have fewer classes, or more."""
        count = len(checkpoint_names)
        fixed = not MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME).spec.open_vocabulary
        if fixed and count and count != cfg.MODEL.NUM_CLASSES:
            logger.info(
                "MODEL.NUM_CLASSES is %d, as in the weights (it was %d)",
                count,
                cfg.MODEL.NUM_CLASSES,
            )
            return cfg.with_value("MODEL.NUM_CLASSES", count, "the tested weights")
        return cfg

    @classmethod
    def read_lists(cls, cfg: CfgNode, splits: Sequence[str]) -> dict[str, ItemList]:
        return {split: dataset_class(cfg, split).read_list(cfg, split) for split in splits}
