"""After a run: what MODEL_VIS, WRONG_PRED_VIS and PREDICTIONS_PATH of TENSORBOARD choose."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from slowfast.config.node import CfgNode
from slowfast.datasets.clip_reader import Views
from slowfast.engine.initial import TestedWeights, load_tested_weights
from slowfast.engine.loggers import TensorBoardLogger
from slowfast.engine.modes import MODE_REGISTRY, Mode
from slowfast.engine.precision import build_autocast
from slowfast.engine.tasks.base import Task
from slowfast.engine.tensorboard.classes import ClassFiles, ShownClasses
from slowfast.engine.tensorboard.layers import ShownLayer, recorded, tensor_image
from slowfast.engine.tensorboard.scores import read_scores
from slowfast.engine.test import build_test
from slowfast.metrics.views import class_probabilities, merge_views
from slowfast.models.base import VideoModel
from slowfast.models.build import build_model
from slowfast.models.looks import look
from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger
from slowfast.utils.runtime import Runtime
from slowfast.video.overlay import add_title, colormap, draw_heat, enlarge

logger = get_logger(__name__)

_FPS = 4
_SIDE = 192  # of the frames that are shown, about


class Shown(NamedTuple):
    """A video of the test: its number in the list, its central view ``1 3 T H W`` as the network
    receives it, the same as uint8 frames ``T H W 3``, its labels (one, but where videos have
    several), and the probabilities of the ``classes``."""

    number: int
    clip: torch.Tensor
    frames: np.ndarray
    labels: list[int]
    scores: torch.Tensor


def is_wanted(cfg: CfgNode) -> bool:
    """Whether the section TENSORBOARD asks for something besides scalars and evaluations."""
    options = cfg.TENSORBOARD
    videos = options.MODEL_VIS.ENABLE or options.WRONG_PRED_VIS.ENABLE
    return options.ENABLE and bool(videos or options.PREDICTIONS_PATH)


def show(cfg: CfgNode, runtime: Runtime) -> None:
    """Write the pictures of the weights that a test would take, each process of its part of the
    videos; UserError if a layer or a file that is named does not exist."""
    options = cfg.TENSORBOARD
    task, weights = build_test(cfg, runtime)
    with contextlib.closing(TensorBoardLogger(task.cfg)) as writer:
        if options.PREDICTIONS_PATH and runtime.is_main:
            scores, labels = read_scores(options.PREDICTIONS_PATH)
            names = task.data.class_names("test")
            writer.log_scores("Saved predictions", scores, labels, names, 0)
        if options.MODEL_VIS.ENABLE or options.WRONG_PRED_VIS.ENABLE:
            _show_videos(task, runtime, weights, writer)


def check(cfg: CfgNode) -> None:
    """UserError for a file, a colour map or a layer that does not exist."""
    options = cfg.TENSORBOARD
    ClassFiles(cfg)
    if options.PREDICTIONS_PATH and not cfg.TEST.ENABLE:  # else the test may write the file
        read_scores(options.PREDICTIONS_PATH)
    if not options.MODEL_VIS.ENABLE:
        return
    colormap(options.MODEL_VIS.GRAD_CAM.COLORMAP, _key("GRAD_CAM.COLORMAP"))
    colormap(options.MODEL_VIS.COLORMAP, _key("COLORMAP"))
    if options.MODEL_VIS.LAYER_LIST:
        with torch.random.fork_rng(devices=[]):  # the training's random numbers stay as they are
            network = build_model(cfg)
        for text in options.MODEL_VIS.LAYER_LIST:
            ShownLayer.parse(text, network)


MODE_REGISTRY.register("tensorboard")(Mode(is_wanted, show, check))


def _show_videos(
    task: Task, runtime: Runtime, weights: TestedWeights, writer: TensorBoardLogger
) -> None:
    cfg = task.cfg
    options = cfg.TENSORBOARD
    network = task.module.build_model()
    load_tested_weights(cfg, network, weights)
    if not isinstance(network, VideoModel):
        raise UserError(
            f"{type(network).__name__} has no classes of its own to be shown",
            "set MODEL_VIS.ENABLE and WRONG_PRED_VIS.ENABLE False",
            "TENSORBOARD",
        )
    network.eval()
    names = task.data.class_names("test")
    classes = ClassFiles(cfg).shown(names, cfg.MODEL.NUM_CLASSES)
    model = ModelPictures(cfg, network, classes, writer) if options.MODEL_VIS.ENABLE else None
    if model is not None and runtime.is_main:
        model.show_weights()
    shown = wrong = 0
    for video in _videos(cfg, runtime, task, network):
        shown += 1
        if model is not None:
            model.show(video)
        if options.WRONG_PRED_VIS.ENABLE:
            wrong += _show_if_wrong(cfg, video, classes, writer)
    text = f", {wrong} of them shown as wrong" if options.WRONG_PRED_VIS.ENABLE else ""
    logger.info("TensorBoard: %d videos were looked at%s", shown, text)


def _videos(cfg: CfgNode, runtime: Runtime, task: Task, network: VideoModel) -> Iterator[Shown]:
    """The videos of the last test."""
    *_, run = task.tests(network)
    autocast = build_autocast(cfg, runtime)
    with torch.inference_mode():
        task.module.begin(network, "test")
    for batch in run.loader:
        if not batch.size:
            continue
        inputs = task.module.prepare(batch, "test")
        with torch.inference_mode(), autocast():
            scores = task.module.predict(network, inputs)
        method, views = cfg.DATA.ENSEMBLE_METHOD, scores.shape[1]
        merged = merge_views(scores.float().cpu(), method)
        merged = class_probabilities(merged, views, method, cfg.MODEL.HEAD_ACT).values
        crops = cfg.TEST.NUM_SPATIAL_CROPS
        central = Views(views // crops, crops).central
        clips = inputs.video.unflatten(0, (batch.size, -1))[:, central]
        frames = task.module.picture(replace(inputs, video=clips), "test").numpy()
        for row, number in enumerate(batch.index.tolist()):
            label = batch.label[row]
            labels = label.nonzero().flatten().tolist() if label.ndim else [int(label)]
            yield Shown(number, clips[row : row + 1], frames[row], labels, merged[row])


class ModelPictures:
    """What MODEL_VIS chooses, under PySlowFast's tags."""

    def __init__(
        self, cfg: CfgNode, network: VideoModel, classes: ShownClasses, writer: TensorBoardLogger
    ):
        self.options, self.network, self.classes = cfg.TENSORBOARD.MODEL_VIS, network, classes
        self.writer = writer
        self.layers = [ShownLayer.parse(text, network) for text in self.options.LAYER_LIST]
        self.colours = colormap(self.options.GRAD_CAM.COLORMAP, _key("GRAD_CAM.COLORMAP"))
        self.text_colours = colormap(self.options.COLORMAP, _key("COLORMAP"))

    def show_weights(self) -> None:
        """Weights of the layers that have some."""
        modules = dict(self.network.named_modules())
        for layer in self.layers if self.options.MODEL_WEIGHTS else ():
            weight = getattr(modules[layer.name], "weight", None)
            if isinstance(weight, torch.Tensor):
                self.writer.add_image(f"Layer Weights/{layer.text}", tensor_image(weight))
            else:
                logger.warning("%s: %s has no weight", _key("LAYER_LIST"), layer.text)

    def show(self, video: Shown) -> None:
        """Clip and feature maps of one video."""
        options, tag = self.options, f"Input {video.number}"
        if options.GRAD_CAM.ENABLE or options.INPUT_VIDEO:
            frames = enlarge(video.frames, _SIDE)
            if options.GRAD_CAM.ENABLE:
                frames = draw_heat(frames, self._map(video, frames.shape), self.colours)
            lines, labels = describe(video.scores, self.classes.names, options.TOPK_PREDS)
            places = [round(label * 255 / max(len(self.classes.names) - 1, 1)) for label in labels]
            frames = add_title(frames, lines, [self.text_colours[place] for place in places])
            self.writer.add_animation(f"{tag}/Pathway 1", frames, _FPS)
        if options.ACTIVATIONS:
            with recorded(self.network, self.layers) as outputs, torch.inference_mode():
                self.network(video.clip)
            for layer in self.layers:
                if layer.name in outputs:
                    part = layer.of(outputs[layer.name][0])
                    image = tensor_image(part, "viridis")
                    self.writer.add_image(f"{tag}/Activations: {layer.text}", image)

    def _map(self, video: Shown, shape: Sequence[int]) -> np.ndarray:
        """``T H W`` from 0 to 1, of the size of the frames."""
        options = self.options.GRAD_CAM
        target = int(video.scores.argmax())
        if options.USE_TRUE_LABEL and video.labels:
            target = video.labels[0]
        seen = look(
            self.network,
            video.clip,
            method="gradcam" if options.LAYER_LIST else "auto",
            layers=options.LAYER_LIST,
            target=torch.tensor([target], device=video.clip.device),
        )
        size = (shape[1], shape[2])
        return torch.nn.functional.interpolate(seen.maps, size, mode="bilinear")[0].numpy()


def _show_if_wrong(
    cfg: CfgNode, video: Shown, classes: ShownClasses, writer: TensorBoardLogger
) -> bool:
    """Show a video whose best class is none of its labels, if one of these is in the subset."""
    chosen = classes.wrong is None or not set(classes.wrong).isdisjoint(video.labels)
    if not chosen or int(video.scores.argmax()) in video.labels:
        return False
    name = " + ".join(classes.names[label] for label in video.labels)
    lines, _ = describe(video.scores, classes.names, 1)
    frames = add_title(enlarge(video.frames, _SIDE), [f"true: {name}", *lines])
    tag = f"{cfg.TENSORBOARD.WRONG_PRED_VIS.TAG}/Video {video.number}, Pathway 0: {name}"
    writer.add_animation(tag, frames, _FPS)
    return True


def describe(scores: torch.Tensor, names: Sequence[str], count: int) -> tuple[list[str], list[int]]:
    """Lines about the ``count`` best classes of ``scores``, and their labels."""
    best = scores.topk(min(count, len(scores)))
    labels = best.indices.tolist()
    return [f"[{value:.2f}] {names[k]}" for value, k in zip(best.values.tolist(), labels)], labels


def _key(name: str) -> str:
    return f"TENSORBOARD.MODEL_VIS.{name}"
