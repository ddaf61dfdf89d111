"""Networks in files that run without this package, from pixels to probabilities.

An exported network takes views: uint8 RGB ``B T H W 3``, of the size that the network is tested
with, any B. Normalisation, channel order, network and softmax are inside. Choosing and resizing
frames is not: the rules are in the file as text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from slowfast.datasets.clip_reader import ClipReader
from slowfast.datasets.shapes_render import CLASSES, render_clip
from slowfast.engine.tasks.base import Inputs, TaskInference
from slowfast.inference.exported import KINDS, Kind
from slowfast.inference.predictor import Predictor
from slowfast.inference.videos import Video
from slowfast.models.weights.files import write_weights
from slowfast.models.weights.safetensors import digest_of
from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.files import make_dirs, write_atomic
from slowfast.utils.logging import get_logger
from slowfast.utils.seeding import sample_rng
from slowfast.version import __version__
from slowfast.video.pipelines import EvalPipeline
from slowfast.video.sampler import FRAME_SAMPLER_REGISTRY

logger = get_logger(__name__)

WEIGHTS = ".safetensors"
SUFFIXES = (*KINDS, WEIGHTS)
TOLERANCE = 1e-4
_BATCHES = (1, 2, 5)  # with which a file is compared with the network
_EXAMPLE = (300, 30.0)  # frames and rate of the video whose sampling is written out
_FEW = 2  # views of a video that are compared


class Written(NamedTuple):
    """What was written: ``facts`` as the file has them; the largest ``difference`` from the
    network, and the ``spread`` (standard deviation) of its numbers; None for weights alone."""

    facts: dict[str, Any]
    difference: float | None
    spread: float | None = None

    @property
    def summary(self) -> str:
        """One line for people."""
        if self.difference is None:
            return "the weights, with class names and configuration"
        output = self.facts["output"]
        text = " x ".join(map(str, output["shape"]))
        return f"{output['name']} {text}; largest difference {self.difference:.1e}"


class ClipNetwork(nn.Module):
    """A network with all that comes before and after it: what a file computes."""

    def __init__(self, inference: TaskInference, model: nn.Module):
        super().__init__()
        normalizer = inference.normalizer()
        self.model, self._inference, self._bgr = model, inference, normalizer.bgr
        shape = (1, 3, 1, 1, 1)
        self.register_buffer("mean", (torch.tensor(normalizer.mean) * 255).view(shape))
        self.register_buffer("std", (torch.tensor(normalizer.std) * 255).view(shape))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Views uint8 ``B T H W 3`` -> probabilities ``B classes``, or embeddings ``B …``."""
        video = (video.permute(0, 4, 1, 2, 3).float() - self.mean) / self.std
        return self._inference.answer(self.model, video.flip(1) if self._bgr else video)


def check_target(target: str | Path) -> None:
    """UserError if no exported file can have this name."""
    if Path(target).suffix not in SUFFIXES:
        names = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise UserError(f"{target} says no kind of file", f"a name that ends in {names}", "OUT")


def export(predictor: Predictor, target: str | Path, videos: Sequence[Video] = ()) -> Written:
    """Write the network of ``predictor``, which is on the CPU and in float32, to ``target``.

    The file is read again and compared with the network on rendered clips, on noise and on the
    ``videos``, with one, two and five views. RunFailure, and no file, if the largest difference is
    above :data:`TOLERANCE`; UserError if the name of ``target`` says no kind of file, or if a
    package is missing.
    """
    check_target(target)
    target = Path(target)
    make_dirs(target.parent)
    pool = compared_views(predictor, videos)
    facts = describe(predictor, pool)
    if target.suffix == WEIGHTS:
        state, text = predictor.model.state_dict(), predictor.cfg.dump()
        write_weights(target, state, predictor.classes, text)
        return Written(facts, None)
    kind = KINDS[target.suffix]
    network = ClipNetwork(predictor.inference, predictor.model).eval()
    content = kind.write(network, torch.zeros_like(pool[:2]), facts)
    compared: list[Comparison] = []

    def write(temporary: str) -> None:
        Path(temporary).write_bytes(content)
        compared.append(compare(predictor, kind, temporary, pool))

    write_atomic(target, write)
    return Written(facts, *compared[0])


class Comparison(NamedTuple):
    """The largest difference between a file and the network, and the spread of the numbers."""

    difference: float
    spread: float


def compare(predictor: Predictor, kind: Kind, path: str, pool: torch.Tensor) -> Comparison:
    """A file beside the network, on views ``N T H W 3`` in batches of one, two and five.

    RunFailure if they differ by more than :data:`TOLERANCE`; embeddings are compared relative to
    their largest number.
    """
    run = kind.open(path)
    found, expected = [], []
    for views in _batches(pool):
        expected.append(reference(predictor, views))
        with torch.no_grad():
            found.append(run(views))
        if found[-1].shape != expected[-1].shape or not bool(found[-1].isfinite().all()):
            raise _failure("gives other shapes than the network, or numbers that are not finite")
    numbers = torch.cat(expected)
    difference = float((torch.cat(found) - numbers).abs().max())
    difference /= max(1.0, float(numbers.abs().max()))
    if difference > TOLERANCE:
        raise _failure(f"differs from the network by {difference:.1e}, more than {TOLERANCE:.0e}")
    return Comparison(difference, float(numbers.std()))


def _batches(pool: torch.Tensor) -> Iterator[torch.Tensor]:
    """One view, two, five, and so on until all have been used."""
    start = 0
    for count in itertools.cycle(_BATCHES):
        if start >= len(pool):
            return
        yield pool[start : start + count]
        start += count


def _failure(problem: str) -> RunFailure:
    remedy = "nothing was written; write another kind of file, and report this network"
    return RunFailure(f"the file {problem}", remedy, "OUT")


@torch.inference_mode()
def reference(predictor: Predictor, views: torch.Tensor) -> torch.Tensor:
    """What the network itself gives for uint8 views ``B T H W 3``, on the way of a test."""
    inference, model = predictor.inference, predictor.model
    inputs: Inputs = inference.prepare(views.permute(0, 4, 1, 2, 3)[:, None])
    if inference.output == "embeddings":
        return inference.answer(model, inputs.video)
    return inference.probabilities(model, inputs)


def describe(predictor: Predictor, pool: torch.Tensor) -> dict[str, Any]:
    """What a user of the file must know, as plain values: input, output, class names, and how
    frames are chosen and resized. Nothing in it depends on when or where the file is written.

    ``pool``: views ``N T H W 3`` of any videos.
    """
    inference, cfg, reader = predictor.inference, predictor.cfg, predictor.reader
    if reader.transforms.before or reader.transforms.after:
        logger.warning("own clip transforms are not part of the file: apply them before it")
    frames = _frames(reader)
    return {
        "slowfast": __version__,
        "model": cfg.MODEL.MODEL_NAME,
        "weights": digest_of(predictor.model.state_dict()),
        "input": {
            "name": "video",
            "dtype": "uint8",
            "axes": "view, frame, row, column, RGB",
            "shape": ["views", *pool.shape[1:]],
        },
        "output": {
            "name": inference.output,
            "kind": _kind_of(predictor),
            "shape": ["views", *reference(predictor, pool[:1]).shape[1:]],
        },
        "classes": predictor.classes,
        "frames": frames,
        "resizing": _resizing(reader.pipeline),
        "merging": {"sum": "mean", "max": "largest"}[cfg.DATA.ENSEMBLE_METHOD] + " of the views",
    }


def _kind_of(predictor: Predictor) -> str:
    """What the numbers of the output are."""
    if predictor.inference.output == "embeddings":
        return predictor.model.embedding_type
    return predictor.kind


def _frames(reader: ClipReader) -> dict[str, Any]:
    """How the frames of the clips of a video are chosen, with an example."""
    sampler = reader.sampler
    rule = next(
        (n for n in FRAME_SAMPLER_REGISTRY if FRAME_SAMPLER_REGISTRY.get(n) is type(sampler)), ""
    )
    options = {name: vars(v) if is_dataclass(v) else v for name, v in vars(sampler).items()}
    count, fps = _EXAMPLE
    indices = [clip.tolist() for clip in reader.evaluated_indices(count, fps)]
    return {
        "rule": rule,
        "description": (type(sampler).__doc__ or "").strip().partition("\n")[0],
        "options": {n: v for n, v in options.items() if isinstance(v, (int, float, str, dict))},
        "clips": len(indices),
        "example": {"video": f"{count} frames, {fps:g} per second", "indices": indices},
    }


def _resizing(pipeline: EvalPipeline) -> dict[str, Any]:
    """How frames become views."""
    return {
        "short_side": pipeline.short_side,
        "keep_aspect": pipeline.keep_aspect,
        "interpolation": "bilinear, centres of pixels at one half, rounded to uint8",
        "antialias": pipeline.antialias,
        "crop": pipeline.size,
        "crops": [("first", "centre", "last")[which] for which in pipeline.crops],
    }


def compared_views(predictor: Predictor, videos: Sequence[Video] = ()) -> torch.Tensor:
    """Views ``N T H W 3`` to compare with: of rendered clips, of ``videos``, and of noise."""
    rendered = [
        render_clip(name, sample_rng(0, 0, number, "export"))
        for number, name in enumerate(CLASSES[::4])
    ]
    views = [predictor.read(video)[:_FEW].permute(0, 2, 3, 4, 1) for video in [*rendered, *videos]]
    rng = sample_rng(0, 0, 0, "export")
    noise = rng.integers(0, 256, (2, *views[0].shape[1:]), dtype=np.uint8)
    return torch.cat([*views, torch.from_numpy(noise)]).contiguous()
