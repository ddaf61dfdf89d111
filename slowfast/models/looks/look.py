"""One call: a network and a clip -> where the network looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from slowfast.layers.stfm import PATCH
from slowfast.models.looks.cam import grad_cam, last_map
from slowfast.models.looks.networks import chosen_patches, patch_stride
from slowfast.models.looks.record import ForwardRecord
from slowfast.models.looks.trace import Trace, normalized
from slowfast.utils.errors import UserError
from slowfast.utils.registry import did_you_mean

if TYPE_CHECKING:
    from slowfast.models.base import VideoModel

METHODS = ("auto", "attention", "rollout", "gradcam")


@dataclass(frozen=True)
class TokenPaths:
    """Patches that STFM follows: ``centres`` ``B T' N 2`` (x, y) in pixels of the clip, of squares
    of ``size`` pixels, and their ``shares`` ``B T' N`` (None with Grad-CAM); ``frames``: the frame
    of the clip that each of the T' stands for."""

    centres: torch.Tensor
    shares: torch.Tensor | None
    size: int
    frames: Sequence[int]


@dataclass(frozen=True)
class Look:
    """Where a network looked in clips ``B 3 T H W``.

    method, layers: what was computed, from which modules.
    logits: ``B classes``; target: ``B``, the classes that Grad-CAM explains.
    shares: ``B T' h w`` on the network's own grid, sum 1 over each clip.
    maps: the same as ``B T H W``, from 0 to 1, to be drawn over the frames.
    tokens: the tokens of STFM, None without that module.
    """

    method: str
    layers: Sequence[str]
    logits: torch.Tensor
    target: torch.Tensor
    shares: torch.Tensor
    maps: torch.Tensor
    tokens: TokenPaths | None = None


def look(
    model: VideoModel,
    video: torch.Tensor,
    *,
    method: str = "auto",
    layers: Sequence[str] = (),
    target: torch.Tensor | None = None,
) -> Look:
    """Where ``model``, in evaluation mode, looks in clips ``B 3 T H W``.

    Args:
        method: ``attention`` (of the last block), ``rollout`` (of all blocks), ``gradcam``, or
            ``auto``: attention where the network has it, else Grad-CAM.
        layers: the block whose attention counts, or the modules whose maps Grad-CAM takes; empty:
            the last one. ``/`` may stand for ``.``, as in PySlowFast's files.
        target: classes ``B`` that Grad-CAM explains; None: the predicted ones.

    UserError where the network does not have what is asked for.
    """
    if method not in METHODS:
        raise UserError(
            f"there is no method {method!r}", f"one of {', '.join(METHODS)}", "--method"
        )
    if video.is_inference():
        video = video.clone()
    layers = [name.replace("/", ".") for name in layers]
    _check_layers(model, layers if method == "gradcam" else ())
    record, logits = ForwardRecord.of(model, video)
    if target is None:
        target = logits.argmax(-1)
    trace = Trace(record, method == "rollout", layers[0] if layers else "")
    shares = None
    if method != "gradcam":
        shares = model.attention_map(trace, tuple(video.shape))
        if shares is None and method != "auto":
            raise UserError(
                f"{type(model).__name__} says of no attention where it lies in the clip",
                "choose --method gradcam",
                "--method",
            )
    if shares is not None:
        trace.check()
        shares, method = normalized(shares), "rollout" if trace.rollout else "attention"
        used = trace.used[::-1]
    else:
        used = layers or model.spec.cam_layers(model) or [last_map(record, video.shape)]
        shares, method = grad_cam(model, video, target, used), "gradcam"
    maps = _to_clip(shares, video.shape)
    tokens = _token_paths(model, trace, video)
    return Look(method, used, logits, target, shares, maps, tokens)


def _check_layers(model: VideoModel, layers: Sequence[str]) -> None:
    known = dict(model.named_modules())
    for name in layers:
        if name not in known:
            remedy = did_you_mean(name, known) or "see print(model)"
            raise UserError(f"the network has no module {name!r}", remedy, "--layer")


def _to_clip(shares: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Shares ``B t h w`` -> ``B T H W`` from 0 to 1 in each clip."""
    maps = F.interpolate(shares[:, None], tuple(shape[2:]), mode="trilinear")[:, 0]
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)


def _token_paths(model: VideoModel, trace: Trace, video: torch.Tensor) -> TokenPaths | None:
    if not trace.record.choices.get("stfm.chain"):
        return None
    chosen, stride = chosen_patches(trace), patch_stride(model)
    side = (video.shape[-1] - PATCH) // stride + 1
    centres = torch.stack([chosen % side, chosen // side], dim=-1) * stride + PATCH // 2
    step = video.shape[2] // chosen.shape[1]
    return TokenPaths(centres, trace.token_shares, PATCH, range(0, video.shape[2], step))
