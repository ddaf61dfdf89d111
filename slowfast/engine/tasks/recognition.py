"""Supervised recognition: a clip has one label out of a fixed set."""

from __future__ import annotations

import copy
import csv
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from slowfast.config.node import CfgNode
from slowfast.datasets.base import VideoDataset
from slowfast.datasets.build import build_dataset
from slowfast.datasets.checks import warn_overlap
from slowfast.datasets.classnames import check_order
from slowfast.datasets.loader import construct_loader
from slowfast.engine.distillation import Distillation
from slowfast.engine.losses import build_loss
from slowfast.engine.step import LossOutput, build_autocast
from slowfast.engine.tasks.base import TASK_REGISTRY, Batch
from slowfast.metrics.topk import topk_errors, unmix
from slowfast.metrics.views import VideoScores, merge_views
from slowfast.models.base import MODEL_REGISTRY, resolve_aux_losses
from slowfast.models.build import build_model
from slowfast.utils.distributed import gather_objects
from slowfast.utils.errors import UserError
from slowfast.utils.files import write_atomic
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import Runtime
from slowfast.utils.seeding import sample_rng
from slowfast.video.device import Normalizer, build_normalizer
from slowfast.video.mixup import Mixup

logger = get_logger(__name__)

_KS = (1, 5)
_ENOUGH = 2  # videos a class from which predictions can be judged


@TASK_REGISTRY.register("recognition")
class RecognitionTask:
    """See :class:`slowfast.engine.tasks.base.Task`."""

    def __init__(self, cfg: CfgNode, runtime: Runtime):
        self.cfg, self.runtime = cfg, runtime
        self.class_names: list[str] = []
        self.output_order: list[int] | None = None
        classes = cfg.MODEL.NUM_CLASSES
        self._loss = build_loss(cfg, classes)
        mix = cfg.MIXUP
        self._mixup = (
            Mixup(
                mix.ALPHA,
                mix.CUTMIX_ALPHA,
                mix.PROB,
                mix.SWITCH_PROB,
                mix.LABEL_SMOOTH_VALUE,
                classes,
            )
            if mix.ENABLE
            else None
        )
        distils = cfg.SOLVER.KD and cfg.TRAIN.ENABLE
        self._distillation = Distillation(cfg, runtime.device) if distils else None
        self._datasets: dict[str, VideoDataset] = {}
        self._normalizers: dict[str, Normalizer] = {}

    def build_model(self) -> nn.Module:
        return build_model(self.cfg, self.runtime.device)

    def check_data(self) -> None:
        splits = ["train", "val"] if self.cfg.TRAIN.ENABLE else []
        splits += ["test"] if self.cfg.TEST.ENABLE else []
        lists = {split: self._dataset(split).list for split in splits}
        for split in sorted(set(splits) - {"train"}):
            if "train" in lists and self.runtime.is_main:
                warn_overlap(lists["train"], lists[split])

    def _dataset(self, split: str) -> VideoDataset:
        """The data set of a split, its list read once."""
        if split not in self._datasets:
            self._datasets[split] = build_dataset(self.cfg, split)
        return copy.copy(self._datasets[split])  # tests differ in their number of views

    def loader(self, split: str) -> DataLoader:
        loader = construct_loader(self.cfg, split, self.runtime, self._dataset(split))
        dataset: VideoDataset = loader.dataset
        self.class_names = dataset.class_names or self.class_names
        expected = MODEL_REGISTRY.get(self.cfg.MODEL.MODEL_NAME).spec.input_format(self.cfg)
        normalizer = build_normalizer(self.cfg, dataset.reads_bgr, expected)
        self._normalizers[split] = normalizer
        logger.info(
            "%s: %s (%s), decoded by %s, %s input, %d batches",
            split,
            dataset.list.source,
            dataset.list.fingerprint,
            dataset.backend,
            "BGR" if normalizer.bgr else "RGB",
            len(loader),
        )
        return loader

    def accept_class_names(self, checkpoint_names: list[str]) -> None:
        """Compare the list's classes with the checkpoint's; UserError if the order differs."""
        if MODEL_REGISTRY.get(self.cfg.MODEL.MODEL_NAME).spec.open_vocabulary:
            return  # its outputs are the classes of the list, whatever it was trained on
        self.output_order = check_order(
            self.class_names, checkpoint_names, self.cfg.DATA.CLASS_ORDER
        )
        if self.output_order:
            logger.warning("outputs are reordered by class name: %s", self.output_order)

    def to_device(self, batch: Batch, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(normalised video, labels) of a batch on the device."""
        device = self.runtime.device
        video = batch["video"]
        views = video.shape[1] if split == "test" else 0
        video = video.flatten(0, 1) if views else video
        normalizer = self._normalizers[split]
        video = normalizer(video, device, batch.get("boxes"))
        return video, batch["label"].to(device, non_blocking=True)

    def training_input(self, batch: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(self.runtime.device.type, enabled=False):
            video, labels = self.to_device(batch, "train")
        if self._mixup is None:
            return video, labels
        rng = sample_rng(self.cfg.RNG_SEED, step, int(batch["index"][0]), "mixup")
        return self._mixup(video, labels, rng)

    def picture(self, video: torch.Tensor, split: str) -> torch.Tensor:
        return self._normalizers[split].picture(video)

    def captions(self, batch: Batch, rows: int, targets: torch.Tensor) -> list[str]:
        names, views = self.class_names, rows // len(batch["path"])
        captions = []
        for row in range(rows):
            item, view = divmod(row, views)
            tail = f"  view {view + 1}/{views}" if views > 1 else ""
            label = _describe_target(targets[item], names)
            captions.append(f"{label}  {Path(batch['path'][item]).name}{tail}")
        return captions

    def loss(self, model: nn.Module, batch: Batch, step: int) -> LossOutput:
        labels = batch["label"]
        video, targets = self.training_input(batch, step)
        logits, extra = model(video, with_losses=True)
        extra = resolve_aux_losses(extra, lambda further: self._loss(further, targets))
        loss = self._loss(logits, targets) + sum(extra.values())
        if self._distillation is not None:
            loss = self._distillation(loss, logits, video)
        stats = {f"{name}": float(value.detach()) for name, value in extra.items()}
        return LossOutput(loss, len(labels), stats | _errors(logits.detach(), targets))

    def validator(self) -> ViewEvaluator:
        return ViewEvaluator(self, "val", "sum")

    def testers(self) -> list[tuple[str, DataLoader, ViewEvaluator]]:
        counts = list(self.cfg.TEST.NUM_TEMPORAL_CLIPS) or [self.cfg.TEST.NUM_ENSEMBLE_VIEWS]
        tests = []
        for count in counts:
            loader = self.loader("test")
            loader.dataset.views = count
            name = f"{count}x{self.cfg.TEST.NUM_SPATIAL_CROPS} views"
            evaluator = ViewEvaluator(self, "test", self.cfg.DATA.ENSEMBLE_METHOD)
            tests.append((name, loader, evaluator))
        return tests

    def save_results(self, name: str, evaluator: ViewEvaluator) -> None:
        folder = Path(self.cfg.OUTPUT_DIR)
        tag = "" if not self.cfg.TEST.NUM_TEMPORAL_CLIPS else "_" + name.split()[0]
        evaluator.write_predictions(folder / f"predictions{tag}.csv")
        for text in evaluator.oddities():
            logger.warning("%s", text)
        if self.cfg.TEST.SAVE_RESULTS_PATH:
            evaluator.write_scores(folder / self.cfg.TEST.SAVE_RESULTS_PATH)


def _describe_target(target: torch.Tensor, names: list[str]) -> str:
    """A label, or the shares of a mixed one, in words."""
    if target.ndim == 0:
        return names[int(target)] if names else f"label {int(target)}"
    share, best = target.topk(min(2, len(target)))
    words = [names[int(i)] if names else str(int(i)) for i in best]
    return " + ".join(f"{100 * float(s):.0f}% {w}" for s, w in zip(share, words) if s > 0.02)


def _errors(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    if targets.ndim == 2:
        logits, targets = unmix(logits, targets)
    top1, top5 = topk_errors(logits, targets, _KS)
    return {"top1_err": top1, "top5_err": top5}


class ViewEvaluator:
    """Scores of every view of every video, merged by video."""

    def __init__(self, task: RecognitionTask, split: str, method: str):
        self.task, self.split = task, split
        self.scores = VideoScores(method)
        self.paths: dict[int, str] = {}
        cfg = task.cfg
        self._activation = {
            "softmax": lambda x: x.softmax(-1),
            "sigmoid": torch.sigmoid,
            "none": lambda x: x,
        }[cfg.MODEL.HEAD_ACT]
        self._chunk = max(cfg.TEST.BATCH_SIZE // task.runtime.local_world, 1)
        self._autocast = build_autocast(cfg, task.runtime)

    def add(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        videos = len(batch["label"])
        video, _ = self.task.to_device(batch, self.split)
        # Validation goes through whole; a test video may have more views than fit at once.
        parts = video.split(self._chunk) if self.split == "test" else [video]
        with self._autocast():
            logits = torch.cat([model(part) for part in parts]).float()
        if self.task.output_order:
            logits = logits[:, self.task.output_order]
        scores = self._activation(logits).unflatten(0, (videos, -1)).cpu()
        for row, index, label, path in zip(
            scores, batch["index"].tolist(), batch["label"].tolist(), batch["path"]
        ):
            self.scores.add(index, label, row)
            self.paths[index] = path
        merged = merge_views(scores, self.scores.method)
        return _errors(merged, batch["label"])

    def merge_ranks(self) -> None:
        for scores, paths in gather_objects((self.scores, self.paths)):
            self.scores.update(scores)
            self.paths.update(paths)

    def stats(self) -> dict[str, Any]:
        """``top1_err``, ``top5_err``, ``score`` (top-1 accuracy) and ``videos``."""
        if not len(self.scores):
            raise UserError(
                "no video could be read", "see the warnings above", f"{self.split} list"
            )
        top1, top5 = self.scores.accuracies(_KS)
        stats = {"top1_err": 100 - top1, "top5_err": 100 - top5, "score": top1}
        return stats | {"videos": len(self.scores)}

    def summary(self) -> tuple[str, dict[str, Any]]:
        """One line for people, and entries of the JSON line."""
        top1, top5 = self.scores.accuracies(_KS)
        count = len(self.scores)
        text = f"top-1 {top1:.2f} %, top-5 {top5:.2f} % of {count} videos"
        return text, {"top1_acc": f"{top1:.2f}", "top5_acc": f"{top5:.2f}", "videos": count}

    def oddities(self) -> list[str]:
        """What hints at labels in another order, or at a network that has collapsed."""
        _, scores, labels = self.scores.tensors()
        guesses, classes = scores.argmax(1), len(labels.unique())
        if len(labels) < _ENOUGH * classes or classes < 2:
            return []
        covered = len(guesses.unique())
        right = float((guesses == labels).float().mean())
        confident = float((scores.max(1).values / scores.sum(1).clamp_min(1e-9)).mean())
        odd = []
        if covered <= classes // 2:
            odd.append(f"predictions cover {covered} of the {classes} classes in the list")
        if right <= 1 / classes and covered > classes // 2 and confident > 0.5:
            odd.append(
                f"the network is sure of itself ({100 * confident:.0f} % on average) and right in "
                f"{100 * right:.1f} % of {len(labels)} videos: are the labels of the list in the "
                "order of the checkpoint's classes?"
            )
        return odd

    def write_predictions(self, path: Path) -> None:
        """A line a video: path, label, prediction, its score, and the names if known."""
        names = self.task.class_names
        order, scores, labels = self.scores.tensors()
        best = scores.max(1)

        def write(temporary: str) -> None:
            with open(temporary, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["path", "label", "prediction", "score", "label_name", "name"])
                for row, video in enumerate(order):
                    label, guess = int(labels[row]), int(best.indices[row])
                    words = [names[label], names[guess]] if names else ["", ""]
                    score = f"{best.values[row]:.5f}"
                    writer.writerow([self.paths[video], label, guess, score, *words])

        write_atomic(path, write)

    def write_scores(self, path: Path) -> None:
        """Merged scores ``N classes`` and labels ``N`` of all videos in list order."""
        _, scores, labels = self.scores.tensors()
        content = {"scores": scores, "labels": labels}
        write_atomic(path, lambda temporary: torch.save(content, temporary))
