"""Weights and feature maps of layers as images for TensorBoard."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.utils import make_grid

from slowfast.utils.errors import UserError
from slowfast.utils.logging import get_logger
from slowfast.utils.registry import did_you_mean
from slowfast.video.overlay import colormap

logger = get_logger(__name__)

_MOST_TILES = 1024  # of one image
_SIDE = 512  # pixels that a small image is enlarged to, about
_KEY = "TENSORBOARD.MODEL_VIS.LAYER_LIST"


@dataclass(frozen=True)
class ShownLayer:
    """An entry of LAYER_LIST: the layer as it was written (``text``), the ``name`` of its module,
    and ``indices`` of its feature map behind the batch axis (empty: all of it)."""

    text: str
    name: str
    indices: tuple[list[int], ...]

    @classmethod
    def parse(cls, text: str, network: nn.Module) -> ShownLayer:
        """``name`` or ``name 0,1;3,4``; UserError if there is no such layer."""
        written, _, numbers = text.strip().partition(" ")
        name = written.replace("/", ".")
        known = dict(network.named_modules())
        if name not in known:
            remedy = did_you_mean(name, known) or "names are those of print(model)"
            raise UserError(f"the network has no layer {written!r}", remedy, _KEY)
        parts = [part.split(",") for part in numbers.split(";")] if numbers.strip() else []
        if not all(number.strip().isdigit() for part in parts for number in part):
            raise UserError(
                f"{numbers!r} are no indices", "separate numbers by , and axes by ;", _KEY
            )
        return cls(written, name, tuple([int(number) for number in part] for part in parts))

    def of(self, activations: torch.Tensor) -> torch.Tensor:
        """The chosen part of a feature map without its batch axis; UserError if it is smaller."""
        try:
            return activations[self.indices] if self.indices else activations
        except IndexError as error:
            shape = tuple(activations.shape)
            raise UserError(f"{self.text} has the shape {shape}: {error}", "", _KEY) from error


@contextlib.contextmanager
def recorded(network: nn.Module, layers: Sequence[ShownLayer]) -> Iterator[dict[str, torch.Tensor]]:
    """A context that gives the last output of each layer, by name."""
    outputs: dict[str, torch.Tensor] = {}
    modules = dict(network.named_modules())

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                outputs[name] = output.detach().float().cpu()

        return hook

    handles = [modules[layer.name].register_forward_hook(keep(layer.name)) for layer in layers]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def tensor_image(values: torch.Tensor, colours: str = "") -> np.ndarray:
    """A tensor of any shape -> RGB ``H W 3``: its last two axes as tiles of a grid, from the
    smallest value to the largest; ``colours``: a colour map (empty: grey).

    Of very many tiles the first 1024 are shown.
    """
    values = values.detach().float().cpu()
    if values.ndim < 2:
        side = max(1, math.isqrt(values.numel()))
        values = nn.functional.pad(values.flatten(), (0, -values.numel() % side)).view(-1, side)
    tiles = values.reshape(-1, 1, *values.shape[-2:])
    if len(tiles) > _MOST_TILES:
        logger.warning("%d of %d tiles are drawn", _MOST_TILES, len(tiles))
        tiles = tiles[:_MOST_TILES]
    low, high = tiles.min(), tiles.max()
    tiles = (tiles - low) / (high - low).clamp_min(torch.finfo(tiles.dtype).tiny)
    columns = math.ceil(math.sqrt(len(tiles)))
    # The space between tiles is white, whatever the colours.
    grid = make_grid(tiles, columns, padding=1, pad_value=-1)[0].numpy()
    ramp = colormap(colours) if colours else np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    image = ramp[(grid.clip(0, 1) * 255).round().astype(np.uint8)]
    image[grid < 0] = 255
    factor = max(1, _SIDE // max(image.shape[:2]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
