"""Supervised recognition: a clip has one label out of a fixed set."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.datasets.batch import Batch
from slowfast.datasets.build import build_dataset, dataset_class
from slowfast.datasets.checks import warn_overlap
from slowfast.datasets.classnames import check_order
from slowfast.datasets.clip_reader import Views
from slowfast.datasets.lists import ItemList
from slowfast.datasets.loader import Loader, construct_loader, views_per_process
from slowfast.engine.distillation import Distillation
from slowfast.engine.losses import build_loss
from slowfast.engine.network import build_network
from slowfast.engine.sharding import unwrap
from slowfast.engine.tasks.base import TASK_REGISTRY, Inputs, LossOutput, Task, TestRun
from slowfast.engine.tasks.inference import RecognitionInference
from slowfast.metrics.evaluators import EvalResult, ViewEvaluator, error_figures
from slowfast.metrics.sanity import sanity_warnings
from slowfast.models.base import MODEL_REGISTRY, resolve_aux_losses
from slowfast.models.weights.write import write_archive
from slowfast.utils.files import write_atomic
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
        # The checked list of a split, read once.
        self.item_list = functools.cache(self._load_list)

    def _load_list(self, split: str) -> ItemList:
        return dataset_class(self.cfg, split).load_list(self.cfg, split)

    def class_names(self, split: str) -> list[str]:
        return self.item_list(split).class_names

    def check(self) -> None:
        splits = ["train", "val"] if self.cfg.TRAIN.ENABLE else []
        splits += ["test"] if self.cfg.TEST.ENABLE else []
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
            name = f"{views.clips}x{views.crops} views"
            yield TestRun(name, self.loader("test", views))


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
        self._output_order: list[int] | None = None
        self.normalizer = functools.cache(self._build_normalizer)

    def build_model(self) -> nn.Module:
        return build_network(self.cfg, self.runtime.device)

    def match_classes(self, checkpoint_names: Sequence[str]) -> None:
        """UserError if the order of the classes differs, unless DATA.CLASS_ORDER permutes them."""
        if MODEL_REGISTRY.get(self.cfg.MODEL.MODEL_NAME).spec.open_vocabulary:
            return  # its outputs are the classes of the list, whatever it was trained on
        names = self.data.class_names("test")
        self._output_order = check_order(names, checkpoint_names, self.cfg.DATA.CLASS_ORDER)
        if self._output_order:
            logger.warning("outputs are reordered by class name: %s", self._output_order)

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
        stats |= error_figures(logits.detach(), inputs.targets)
        return LossOutput(loss, inputs.size, stats)

    def predict(self, model: nn.Module, inputs: Inputs) -> torch.Tensor:
        """Scores ``videos views classes``; a test video may have more views than fit at once."""
        parts = inputs.video.split(inputs.views_at_once or len(inputs.video))
        logits = torch.cat([model(part) for part in parts]).float()
        if self._output_order:
            logits = logits[:, self._output_order]
        return self._activation(logits).unflatten(0, (inputs.size, -1))

    def picture(self, inputs: Inputs, split: str) -> torch.Tensor:
        return self.normalizer(split).picture(inputs.video)


class RecognitionReport:
    """Accuracy over videos, predictions and scores."""

    def __init__(self, cfg: CfgNode, data: RecognitionData):
        self.cfg, self.data = cfg, data

    def evaluator(self, split: str) -> ViewEvaluator:
        method = self.cfg.DATA.ENSEMBLE_METHOD if split == "test" else "sum"
        return ViewEvaluator(method, tuple(self.cfg.TEST.METRICS))

    def describe(
        self, result: EvalResult, unreadable: int, total: int
    ) -> tuple[str, dict[str, Any]]:
        """With unreadable videos also the accuracy that counts them as wrong."""
        figures = dict(result.metrics)
        top1, top5 = result.score, 100 - figures.pop("top5_err")
        del figures["top1_err"]
        text = f"top-1 {top1:.2f} %, top-5 {top5:.2f} % of {result.items} videos"
        entries = {"top1_acc": f"{top1:.2f}", "top5_acc": f"{top5:.2f}", "videos": result.items}
        for name, value in figures.items():
            text += f", {name} {value:.2f}"
            entries[name] = f"{value:.2f}"
        if unreadable:
            with_bad = top1 * result.items / total
            entries["top1_acc_with_bad"] = f"{with_bad:.2f}"
            text += f"; {unreadable} could not be read, counted as wrong: {with_bad:.2f} %"
        return text, entries

    def save(self, test: TestRun, evaluator: ViewEvaluator) -> None:
        """``predictions.csv`` and, where asked for, the scores; warnings about odd predictions."""
        folder = Path(self.cfg.OUTPUT_DIR)
        tag = "" if not self.cfg.TEST.NUM_TEMPORAL_CLIPS else "_" + test.name.split()[0]
        names = self.data.class_names("test")
        write_predictions(evaluator, names, folder / f"predictions{tag}.csv")
        _, scores, labels = evaluator.videos.tensors()
        for text in sanity_warnings(scores, labels):
            logger.warning("%s", text)
        if self.cfg.TEST.SAVE_RESULTS_PATH:
            path = folder / self.cfg.TEST.SAVE_RESULTS_PATH
            # The last of several tests stands under the plain name, too.
            for name in {path.name, f"{path.stem}{tag}{path.suffix}"}:
                write_scores(scores, labels, path.with_name(name))


def write_scores(scores: torch.Tensor, labels: torch.Tensor, path: Path) -> None:
    """Scores ``N classes`` and labels ``N`` in the order of the list: NumPy's file for ``.npz``,
    else PyTorch's."""
    content = {"scores": scores, "labels": labels}

    def write(temporary: str) -> None:
        if path.suffix != ".npz":
            write_archive(content, temporary)
            return
        with open(temporary, "wb") as file:
            np.savez(file, **{name: value.numpy() for name, value in content.items()})

    write_atomic(path, write)


def write_predictions(evaluator: ViewEvaluator, names: Sequence[str], path: Path) -> None:
    """A line per video: path, label, prediction, its score, and the names if known."""
    order, scores, labels = evaluator.videos.tensors()
    best = scores.max(1)

    def write(temporary: str) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "prediction", "score", "label_name", "name"])
            for row, video in enumerate(order):
                label, guess = int(labels[row]), int(best.indices[row])
                words = [names[label], names[guess]] if names else ["", ""]
                score = f"{best.values[row]:.5f}"
                writer.writerow([evaluator.paths[video], label, guess, score, *words])

    write_atomic(path, write)


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
    def read_lists(cls, cfg: CfgNode, splits: Sequence[str]) -> dict[str, ItemList]:
        return {split: dataset_class(cfg, split).read_list(cfg, split) for split in splits}
