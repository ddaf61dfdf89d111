"""A trained network that answers for videos: ``slowfast.load(checkpoint).predict(video)``."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.datasets.clip_reader import ClipReader
from slowfast.datasets.loader import videos_per_process
from slowfast.engine.initial import TestedWeights, class_names, load_tested_weights
from slowfast.engine.precision import build_autocast, settle_precision
from slowfast.engine.tasks import task_class
from slowfast.engine.tasks.base import Inputs, TaskInference
from slowfast.inference.prediction import FPS, Clips, Prediction
from slowfast.inference.reading import Reading
from slowfast.inference.trained import (
    KEY,
    Overrides,
    PathLike,
    choose_runtime,
    configuration,
    read_names,
    read_trained,
)
from slowfast.inference.videos import Video, is_one_video, name_of
from slowfast.layers.fold import Folded, folded_norms
from slowfast.models.base import MODEL_REGISTRY
from slowfast.models.weights.read import Checkpoint
from slowfast.utils.errors import UserError, VideoError
from slowfast.utils.runtime import Runtime


def load(
    checkpoint: PathLike,
    device: torch.device | str | None = None,
    *,
    cfg: PathLike | CfgNode | Mapping[str, Any] | None = None,
    classes: PathLike | Sequence[str] | None = None,
    support: Mapping[str, Sequence[Video]] | None = None,
    overrides: Overrides = (),
) -> Predictor:
    """A network with its weights, its configuration and its class names.

    >>> predictor = slowfast.load("output/mine/checkpoints/checkpoint_best.pyth")
    >>> predictor.predict("video.mp4").labels
    ['left', 'up', 'right', 'down']

    Args:
        checkpoint: a file or its address; a folder of a run stands for its best checkpoint.
        device: None: a GPU where there is one.
        cfg: a configuration, by path, published name or values by key, instead of the
            checkpoint's. Weights that were released without one need it.
        classes: names of the classes, or a file of names: those that CLIP is to tell apart, or
            those of weights that do not say them.
        support: clips of each class, for a few-shot network.
        overrides: KEY VALUE words or a mapping, as of the command line.

    UserError if the file holds no weights of such a network.
    """
    trained = read_trained(checkpoint)
    runtime = choose_runtime(device)
    names = read_names(classes, trained)
    cfg = configuration(trained, runtime, names, cfg, overrides)
    if classes is not None:
        _check_names(cfg, names, trained)
    predictor = build_predictor(cfg, runtime, trained, names)
    if support is not None:
        predictor.set_support(support)
    return predictor


def build_predictor(
    cfg: CfgNode, runtime: Runtime, trained: Checkpoint, names: Sequence[str]
) -> Predictor:
    """The network of a configuration for single videos with the weights of a checkpoint; class
    ``names`` in the order of its outputs."""
    cfg = settle_precision(cfg, runtime)
    inference = task_class(cfg).inference(cfg, runtime, names)
    model = inference.module.build_model()
    before = {} if inference.takes_support else _classifier(model)
    load_tested_weights(cfg, model, TestedWeights(trained))
    after = _classifier(model)
    if any(torch.equal(after[name], value) for name, value in before.items()):
        raise UserError(
            f"{trained.path} has no classifier of {cfg.MODEL.NUM_CLASSES} classes, and answers of "
            "a random one mean nothing",
            "set the number of classes that it was trained with: "
            'overrides=["MODEL.NUM_CLASSES", "…"]',
            KEY,
        )
    model.eval().requires_grad_(False)
    return Predictor(cfg, runtime, inference, model)


def _classifier(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the weights that give the classes, of a network that does not know their names."""
    prefixes = () if model.spec.open_vocabulary else model.spec.classifier_of(model)
    return {
        name: value.detach().clone()
        for name, value in model.named_parameters()
        if name.startswith(tuple(prefixes)) and value.ndim > 1
    }


def _check_names(cfg: CfgNode, names: Sequence[str], trained: Checkpoint) -> None:
    """UserError for other names than those that the outputs of a network have."""
    known = class_names(trained)
    is_open = MODEL_REGISTRY.get(cfg.MODEL.MODEL_NAME).spec.open_vocabulary
    if known and list(names) != known and not is_open:
        raise UserError(
            f"{trained.path} was trained with other class names: {', '.join(known[:5])} …",
            "leave classes out; only CLIP takes classes by their names",
            "classes",
        )


class Predictor:
    """A network ``model`` in evaluation mode, and all that leads from a video to an answer.

    A video is a path, an address, an open file, bytes, a folder of frames, or frames: uint8 RGB
    ``T H W 3`` as an array, a tensor or a list. Views, crops and merging are those of the test in
    the configuration ``cfg``, so that the answers are those of a test.
    """

    def __init__(self, cfg: CfgNode, runtime: Runtime, inference: TaskInference, model: nn.Module):
        self.cfg, self.model = cfg, model
        self._runtime, self._inference = runtime, inference
        self._reading = Reading(inference)
        self._autocast = build_autocast(cfg, runtime)
        with torch.inference_mode():
            inference.module.begin(model, "test")

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self._runtime.device

    @property
    def inference(self) -> TaskInference:
        """What the task says of videos that stand in no list."""
        return self._inference

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of :attr:`Prediction.scores`."""
        return list(self._inference.classes)

    @property
    def reader(self) -> ClipReader:
        """What reads videos as the test does."""
        return self._inference.reader

    @property
    def kind(self) -> str:
        """What the numbers of its answers are, see :class:`Prediction`."""
        return self._inference.kind

    def set_support(self, support: Mapping[str, Sequence[Video]], fps: float = FPS) -> None:
        """Few-shot: compare videos with these clips from now on, ``{class: [clip, …]}``.

        UserError if the network is none of this kind; VideoError if a clip cannot be read.
        """
        if not self._inference.takes_support:
            raise UserError(
                "this network has classes of its own and takes no support clips",
                "leave them out",
                "support",
            )
        clips = {
            name: [self._prepared([self._reading.video(video, fps)]) for video in videos]
            for name, videos in support.items()
        }
        with self._computing():
            self._inference.set_support(self.model, clips)

    def read(self, video: Video, fps: float = FPS) -> torch.Tensor:
        """The views of a video before normalisation: uint8 RGB ``V 3 T H W``. VideoError if it
        cannot be read."""
        return self._reading.video(video, fps)

    def preprocess(self, video: Video, fps: float = FPS) -> torch.Tensor:
        """What the network receives: float32 ``V 3 T H W``, normalised, on the device.

        V is the number of views of the test, clips times crops. VideoError if it cannot be read.
        """
        return self._prepared([self._reading.video(video, fps)]).video

    def picture(self, clips: torch.Tensor) -> torch.Tensor:
        """What :meth:`preprocess` gives, ``V 3 T H W`` -> uint8 RGB ``V T H W 3``, for pictures."""
        labels = torch.zeros(len(clips), dtype=torch.long)
        return self._inference.module.picture(Inputs(clips, labels, len(clips)), "test")

    def predict(
        self, videos: Video | Sequence[Video], top: int = 5, fps: float = FPS
    ) -> Prediction | list[Prediction]:
        """The ``top`` classes of a video, or of each video of a list.

        ``fps``: frame rate of frames in memory. A single video that cannot be read is a
        VideoError; in a list, its prediction has an ``error``, and the others are not affected.
        """
        if not is_one_video(videos):
            return list(self.stream(videos, top, fps))
        (prediction,) = self._answer(
            [Clips(name_of(videos), self._reading.video(videos, fps))], top
        )
        return prediction

    def stream(
        self, videos: Iterable[Video], top: int = 5, fps: float = FPS, features: bool = False
    ) -> Iterator[Prediction]:
        """:meth:`predict` for any number of videos: an answer after the other, in their order.
        ``features``: whether they have :attr:`Prediction.features`.

        Threads read the next videos while the network computes; memory does not grow. Weights must
        not change meanwhile.
        """
        for batch, folded in self._batches(self._reading.videos(videos, fps)):
            yield from self._answer(batch, top, folded, features)

    def windows(
        self,
        video: Video,
        seconds: float = 2.0,
        stride: float | None = None,
        top: int = 5,
        fps: float = FPS,
    ) -> Iterator[Prediction]:
        """Answers for the sliding windows of a long video, each with its ``span``.

        A window of ``seconds`` begins every ``stride`` seconds (None: where the last one ended) and
        is read as a video of its own; the last one ends with the video. Memory does not grow with
        the video. VideoError if it cannot be opened; a window of a damaged part has an ``error``.
        """
        for answer in self.stream_windows([video], seconds, stride, top, fps):
            if answer.error and answer.span is None:
                raise VideoError(answer.path, answer.error)
            yield answer

    def stream_windows(
        self,
        videos: Iterable[Video],
        seconds: float = 2.0,
        stride: float | None = None,
        top: int = 5,
        fps: float = FPS,
        features: bool = False,
    ) -> Iterator[Prediction]:
        """:meth:`windows` of any number of videos, which pass through the network together; a
        video that cannot be opened has an ``error`` and no ``span``.

        ``features``: whether the answers have :attr:`Prediction.features`.
        """
        clips = self._reading.windows_of(videos, seconds, stride or seconds, fps)
        for batch, folded in self._batches(clips):
            yield from self._answer(batch, top, folded, features)

    def embed(self, videos: Video | Sequence[Video], fps: float = FPS) -> torch.Tensor:
        """Features before the classifier, the mean over the views of a video: float32 ``B D`` on
        the CPU; one video is a list of one. VideoError if a video cannot be read."""
        rows = []
        for row in self.embed_stream([videos] if is_one_video(videos) else videos, fps):
            if isinstance(row, VideoError):
                raise row
            rows.append(row)
        if not rows:
            raise UserError("there are no videos to embed", "", "videos")
        return torch.stack(rows)

    def embed_part(
        self, video: Video, start: float, end: float | None = None, fps: float = FPS
    ) -> torch.Tensor:
        """Features of a part of a video, from ``start`` to ``end`` (seconds; None: its end), as
        if it were all of it: float32 ``D`` on the CPU. UserError if it is not so long; VideoError
        if it cannot be read."""
        inputs = self._prepared([self._reading.part(video, start, end, fps)])
        with self._computing():
            return self._inference.features(self.model, inputs)[0].cpu()

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts in the space of the features of videos: float32 ``N D`` of length one, on the
        CPU. UserError if the network knows no words."""
        return self._inference.text_features(self.model, texts).float().cpu()

    def embed_stream(
        self, videos: Iterable[Video], fps: float = FPS
    ) -> Iterator[torch.Tensor | VideoError]:
        """:meth:`embed` for any number of videos: ``D`` of one after the other, or why it could
        not be read."""
        for batch, folded in self._batches(self._reading.videos(videos, fps)):
            good = [clips.video for clips in batch if clips.video is not None]
            rows: Iterator[torch.Tensor] = iter(())
            if good:
                inputs = self._prepared(good)
                with self._computing(folded):
                    rows = iter(self._inference.features(self.model, inputs).cpu().unbind())
            yield from (clips.error or next(rows) for clips in batch)

    # -- computing -------------------------------------------------------------------------------

    def _batches(self, clips: Iterator[Clips]) -> Iterator[tuple[list[Clips], Folded | None]]:
        """Videos that pass through the network together, and what the batches from the second on
        have folded: it takes longer than what it saves in one batch."""
        batch: list[Clips] = []
        folded: Folded | None = None
        size = 1
        with contextlib.closing(clips):
            for one in clips:
                if one.video is not None:
                    size = videos_per_process(self.cfg, "test", 1, len(one.video))
                batch.append(one)
                if len(batch) >= size:
                    yield batch, folded
                    batch, folded = [], {} if folded is None else folded
        if batch:
            yield batch, folded

    @contextlib.contextmanager
    def _computing(self, folded: Folded | None = None) -> Iterator[None]:
        self.model.eval()  # whoever has the network may have trained it
        fold = contextlib.nullcontext() if folded is None else folded_norms(folded)
        with torch.inference_mode(), self._autocast(), fold:
            yield

    def _prepared(self, videos: Sequence[torch.Tensor]) -> Inputs:
        with torch.inference_mode():
            return self._inference.prepare(torch.stack(list(videos)))

    def _answer(
        self, batch: Sequence[Clips], top: int, folded: Folded | None = None, features: bool = False
    ) -> list[Prediction]:
        """Predictions for what was read, and errors in place of the rest."""
        if top < 1:
            raise UserError(f"top is {top}", "ask for one class at least", "top")
        good = [clips for clips in batch if clips.error is None]
        rows: Iterator[tuple[torch.Tensor, torch.Tensor | None]] = iter(())
        if good:
            inputs = self._prepared([clips.video for clips in good])
            with self._computing(folded):
                if features:
                    scores, vectors = self._inference.answers_and_features(self.model, inputs)
                    rows = zip(scores, vectors.cpu())
                else:
                    scores = self._inference.probabilities(self.model, inputs)
                    rows = zip(scores, itertools.repeat(None))
        return [
            Prediction(clips.name, kind=self.kind, error=clips.error.cause, span=clips.span)
            if clips.error
            else self._prediction(clips, *next(rows), top)
            for clips in batch
        ]

    def _prediction(
        self, clips: Clips, scores: torch.Tensor, features: torch.Tensor | None, top: int
    ) -> Prediction:
        best = scores.topk(min(top, len(scores)))
        names = self._inference.classes
        labels = [names[index] for index in best.indices.tolist()]
        values = best.values.tolist()
        return Prediction(clips.name, labels, values, scores, self.kind, "", clips.span, features)
