"""What a tensor of one shape becomes in a network that wants another shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from slowfast.layers.positions import resize_grid, resize_line, resize_pos_spatial, resize_table


def inflate(weight: torch.Tensor, frames: int) -> torch.Tensor:
    """2-D convolution ``O I H W`` -> ``O I frames H W``: repeated over time, divided by it."""
    return repeat_over_time(weight, frames) / frames


def repeat_over_time(weight: torch.Tensor, frames: int) -> torch.Tensor:
    """``O I H W`` -> ``O I frames H W`` without dividing (image -> video MViT)."""
    return weight.unsqueeze(2).repeat(1, 1, frames, 1, 1)


def resize_rel_pos(weight: torch.Tensor, length: int) -> torch.Tensor:
    """Relative positions ``L C`` -> ``length C``, linear along the length."""
    resized = F.interpolate(weight.t()[None].float(), size=length, mode="linear")
    return resized[0].t().to(weight.dtype)


def resize_pos_temporal(weight: torch.Tensor, frames: int) -> torch.Tensor:
    """Temporal position embedding ``1 T C`` -> ``1 frames C``, linear."""
    resized = F.interpolate(weight.transpose(1, 2).float(), size=frames, mode="linear")
    return resized.transpose(1, 2).to(weight.dtype)


def fit_tensor(
    name: str, given: torch.Tensor, shape: Sequence[int], *, image_init: bool = False
) -> torch.Tensor | None:
    """``given`` as a tensor of ``shape``, or None if there is no rule for that.

    ``image_init``: an image network starts a video network (MViT), whose patch embedding and
    pooling are repeated without dividing.
    """
    want = tuple(shape)
    if tuple(given.shape) == want:
        return given
    fitted = None
    if given.ndim == 5 and len(want) == 4 and image_init:
        fitted = given.sum(2)
    elif len(want) == 5 and (given.ndim == 4 or (given.ndim == 5 and given.shape[2] == 1)):
        flat = given[:, :, 0] if given.ndim == 5 else given
        plain = image_init and ("patch_embed" in name or ".pool_" in name)
        fitted = repeat_over_time(flat, want[2]) if plain else inflate(flat, want[2])
    elif name.endswith("visual.positional_embedding") and given.shape[1:] == want[1:]:
        fitted = resize_table(given, want[0])
    elif name.endswith("model.positional_embedding") and len(given) > want[0]:
        fitted = given[: want[0]]  # shorter texts
    elif "rel_pos" in name and given.ndim == 2 and given.shape[1] == want[1]:
        fitted = resize_rel_pos(given, want[0])
    elif name == "pos_embed" and given.ndim == 3 and given.shape[2] == want[2]:
        side = math.isqrt(want[1] - 1)
        square = (
            side**2 + 1 == want[1] and math.isqrt(given.shape[1] - 1) ** 2 + 1 == given.shape[1]
        )
        fitted = resize_grid(given, side, side) if square else None
    elif name == "time_embed" and given.shape[2] == want[2]:
        fitted = resize_line(given, want[1])
    elif name.endswith("pos_embed_temporal") and given.shape[2] == want[2]:
        fitted = resize_pos_temporal(given, want[1])
    elif name.endswith("pos_embed_spatial") and given.shape[2] == want[2]:
        fitted = resize_pos_spatial(given, want[1])
    return fitted if fitted is not None and tuple(fitted.shape) == want else None
