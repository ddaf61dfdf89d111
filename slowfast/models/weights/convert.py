"""Tensors of a file in the shape that a network has: inflation over time, resized positions."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import torch

from slowfast.models.spec import Resizer


def inflate(weight: torch.Tensor, frames: int) -> torch.Tensor:
    """2-D convolution ``O I H W`` -> ``O I frames H W``: repeated over time, divided by it."""
    return repeat_over_time(weight, frames) / frames


def repeat_over_time(weight: torch.Tensor, frames: int) -> torch.Tensor:
    """``O I H W`` -> ``O I frames H W`` without dividing (image -> video MViT)."""
    return weight.unsqueeze(2).repeat(1, 1, frames, 1, 1)


def fit_convolution(
    name: str, tensor: torch.Tensor, shape: tuple[int, ...], image_init: bool = False
) -> torch.Tensor | None:
    """Weights of a convolution with another kernel size over time, or None for other tensors.

    ``image_init``: an image network starts a video network (MViT), whose patch embedding and
    pooling are repeated without dividing; 3-D weights of a 2-D target are summed over time.
    """
    if tensor.ndim == 5 and len(shape) == 4 and image_init:
        return tensor.sum(2)
    if len(shape) == 5 and (tensor.ndim == 4 or (tensor.ndim == 5 and tensor.shape[2] == 1)):
        flat = tensor[:, :, 0] if tensor.ndim == 5 else tensor
        undivided = image_init and ("patch_embed" in name or ".pool_" in name)
        return repeat_over_time(flat, shape[2]) if undivided else inflate(flat, shape[2])
    return None


def fit_tensor(
    name: str,
    tensor: torch.Tensor,
    shape: Sequence[int],
    *,
    resizers: Iterable[Resizer] = (),
    image_init: bool = False,
) -> torch.Tensor | None:
    """``tensor`` of a file as a parameter ``name`` of ``shape``, or None if nothing fits.

    The network's ``resizers`` (:class:`slowfast.models.spec.ModelSpec`) are tried in order, then
    :func:`fit_convolution`, to which ``image_init`` belongs.
    """
    shape = tuple(shape)
    if tuple(tensor.shape) == shape:
        return tensor
    convolution = functools.partial(fit_convolution, image_init=image_init)
    for resize in (*resizers, convolution):
        fitted = resize(name, tensor, shape)
        if fitted is not None and tuple(fitted.shape) == shape:
            return fitted
    return None
