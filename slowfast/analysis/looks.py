"""Pictures of what a trained network looks at: a sheet and an animation for each video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from slowfast.analysis.contact_sheet import draw_sheet
from slowfast.datasets.clip_reader import Views
from slowfast.models.base import VideoModel
from slowfast.models.looks import METHODS, Look, look
from slowfast.utils.errors import UserError
from slowfast.utils.registry import did_you_mean
from slowfast.video.overlay import add_title, colormap, draw_heat, draw_tokens, enlarge

if TYPE_CHECKING:
    from slowfast.inference.predictor import Predictor

__all__ = ["METHODS", "LookOptions", "Pictures", "show_video"]

_MOST_TOKENS = 12  # more are too many to follow


@dataclass(frozen=True)
class LookOptions:
    """What is shown: ``method`` and ``layers`` of :func:`slowfast.models.looks.look`, the class
    ``target`` that Grad-CAM explains (name or number; empty: the predicted one), ``columns`` frames
    on the sheet, frames of about ``side`` pixels, and the ``tokens`` of STFM with the largest
    shares."""

    method: str = "auto"
    layers: Sequence[str] = ()
    target: str = ""
    columns: int = 8
    side: int = 192
    colours: str = "turbo"
    tokens: int = _MOST_TOKENS


@dataclass(frozen=True)
class Pictures:
    """Of one video: ``sheet`` ``H W 3`` and ``frames`` of the animation ``T H W 3``, uint8 RGB;
    ``title``: what they say in words; ``look``: the numbers behind them."""

    sheet: np.ndarray
    frames: np.ndarray
    title: str
    look: Look


def show_video(predictor: Predictor, video: str, options: LookOptions) -> Pictures:
    """Where the network looks in the central view of a video.

    UserError where the network cannot be shown so, VideoError if the video cannot be read.
    """
    if not isinstance(predictor.model, VideoModel):
        raise UserError(
            f"a {type(predictor.model).__name__} compares clips and has no classes of its own",
            "show the network that its embedding comes from",
            "CHECKPOINT",
        )
    target = _target(options.target, predictor.classes)
    prediction = predictor.predict(video, top=1)
    views = predictor.preprocess(video)
    crops = predictor.cfg.TEST.NUM_SPATIAL_CROPS
    clip = views[Views(len(views) // crops, crops).central][None]
    if target is None:
        target = predictor.classes.index(prediction.labels[0])
    seen = look(
        predictor.model,
        clip,
        method=options.method,
        layers=options.layers,
        target=torch.tensor([target], device=clip.device),
    )
    score = prediction.probabilities[0]
    sure = f"{100 * score:.1f} %" if prediction.kind != "logit" else f"logit {score:.2f}"
    title = f"{Path(video).name}: {prediction.labels[0]}, {sure}"
    return _draw(predictor.picture(clip)[0].numpy(), seen, title, predictor.classes, options)


def _target(text: str, classes: Sequence[str]) -> int | None:
    if not text:
        return None
    if text in classes:
        return list(classes).index(text)
    if text.isdigit() and int(text) < len(classes):
        return int(text)
    remedy = did_you_mean(text, classes) or f"a name, or a number below {len(classes)}"
    raise UserError(f"the network has no class {text!r}", remedy, "--target")


def _draw(
    frames: np.ndarray, seen: Look, title: str, classes: Sequence[str], options: LookOptions
) -> Pictures:
    frames = enlarge(frames, options.side)
    size = (frames.shape[1], frames.shape[2])
    maps = torch.nn.functional.interpolate(seen.maps, size, mode="bilinear")[0].numpy()
    heat = draw_heat(frames, maps, colormap(options.colours))
    text = _describe(seen, classes, maps)
    rows, captions = [frames, heat], [title, text]
    if seen.tokens is not None:
        rows.append(_with_tokens(frames, seen, options.tokens))
        count = min(options.tokens, seen.tokens.centres.shape[2])
        total = seen.tokens.centres.shape[2]
        tokens = f"the {total} tokens" if count == total else f"{count} of {total} tokens"
        captions.append(f"STFM: {tokens}, followed through the frames")
    animation = add_title(np.concatenate(rows, axis=2), [title, "; ".join(captions[1:])])
    return Pictures(draw_sheet(np.stack(rows), captions, options.columns), animation, title, seen)


def _describe(seen: Look, classes: Sequence[str], maps: np.ndarray) -> str:
    """The line that says how the map came about."""
    layers = ", ".join(seen.layers) if len(seen.layers) < 4 else f"{len(seen.layers)} blocks"
    if seen.method == "gradcam":
        text = f"Grad-CAM for {classes[int(seen.target[0])]}, {layers}"
        return text if maps.any() else f"{text}: nothing in the clip speaks for the class"
    return f"attention {'roll-out over' if seen.method == 'rollout' else 'of'} {layers}"


def _with_tokens(frames: np.ndarray, seen: Look, count: int) -> np.ndarray:
    """Frames with the tokens that have the largest shares over all frames (Grad-CAM: the first)."""
    tokens, scale = seen.tokens, frames.shape[2] / seen.maps.shape[-1]
    centres = tokens.centres[0]
    if tokens.shares is not None:
        best = tokens.shares[0].sum(0).argsort(descending=True, stable=True)[:count]
        centres = centres[:, best]
    frames = frames.copy()
    drawn = (centres[:, :count] * scale).numpy()
    draw_tokens(frames, drawn, tokens.frames, round(tokens.size * scale))
    return frames
