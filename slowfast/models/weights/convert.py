"""What a tensor of one shape becomes in a network that wants another shape."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from slowfast.layers.positions import resize_clip_pos_embed
from slowfast.models.spec import Resizer


def inflate(weight: torch.Tensor, frames: int) -> torch.Tensor:
    """2-D convolution ``O I H W`` -> ``O I frames H W``: repeated over time, divided by it."""
    return repeat_over_time(weight, frames) / frames


def repeat_over_time(weight: torch.Tensor, frames: int) -> torch.Tensor:
    """``O I H W`` -> ``O I frames H W`` without dividing (image -> video MViT)."""
    return weight.unsqueeze(2).repeat(1, 1, frames, 1, 1)


def fit_tensor(
    name: str,
    given: torch.Tensor,
    shape: Sequence[int],
    *,
    image_init: bool = False,
    resizers: Iterable[Resizer] = (),
) -> torch.Tensor | None:
    """``given`` as a tensor of ``shape``, or None if there is no rule for that.

    ``resizers`` are those of the network (``spec.resizers``), tried after the common rules.
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
        fitted = resize_clip_pos_embed(given, want[0])
    elif name.endswith("model.positional_embedding") and len(given) > want[0]:
        fitted = given[: want[0]]  # shorter texts
    else:
        results = (resize(name, given, want) for resize in resizers)
        fitted = next((result for result in results if result is not None), None)
    return fitted if fitted is not None and tuple(fitted.shape) == want else None
