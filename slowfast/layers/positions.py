"""Position embeddings: resizing of learnt ones, and fixed sines and cosines."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from timm.layers import resample_abs_pos_embed

# -- resizing --------------------------------------------------------------------------------


def resize_pos_embed_nearest(pos: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """``1 1+N C`` (class token, then a square grid) -> ``1 1+height*width C``.

    Nearest neighbour, as in the published TimeSformer; unchanged if the size fits.
    """
    if pos.shape[1] == 1 + height * width:
        return pos
    side = math.isqrt(pos.shape[1] - 1)
    grid = rearrange(pos[:, 1:], "b (h w) c -> b c h w", h=side)
    resized = F.interpolate(grid, size=(height, width), mode="nearest")
    return torch.cat([pos[:, :1], rearrange(resized, "b c h w -> b (h w) c")], dim=1)


def resize_pos_embed_nearest_1d(pos: torch.Tensor, length: int) -> torch.Tensor:
    """``1 T C`` -> ``1 length C``, nearest neighbour; unchanged if the size fits."""
    if pos.shape[1] == length:
        return pos
    return F.interpolate(pos.mT, size=length, mode="nearest").mT


def resize_pos_embed_linear_1d(pos: torch.Tensor, length: int) -> torch.Tensor:
    """``1 T C`` -> ``1 length C``, linear."""
    return F.interpolate(pos.mT.float(), size=length, mode="linear").mT.to(pos.dtype)


def resize_rel_pos(table: torch.Tensor, length: int) -> torch.Tensor:
    """Table of relative positions ``L C`` -> ``length C``, linear."""
    return resize_pos_embed_linear_1d(table[None], length)[0]


def resize_pos_embed_bicubic(pos: torch.Tensor, num_positions: int) -> torch.Tensor:
    """Square grid ``1 N C`` without class token -> square grid ``1 num_positions C``, bicubic."""
    side = math.isqrt(num_positions)
    return resample_abs_pos_embed(pos, [side, side], num_prefix_tokens=0, antialias=False)


def resize_clip_pos_embed(pos: torch.Tensor, num_positions: int) -> torch.Tensor:
    """CLIP's ``1+N C`` (class token, then a square grid) -> ``num_positions C``, bicubic.

    Unchanged if the size fits.
    """
    if len(pos) == num_positions:
        return pos
    side = math.isqrt(num_positions - 1)
    return resample_abs_pos_embed(pos[None], [side, side], antialias=False)[0]


# -- sines and cosines -----------------------------------------------------------------------


def sincos(
    positions: torch.Tensor,
    dim: int,
    *,
    base: float = 10000.0,
    scale: float = 1.0,
    interleave: bool = False,
) -> torch.Tensor:
    """Sines and cosines of ``positions`` ``N`` at ``dim / 2`` frequencies: ``N dim``.

    Frequency ``i`` is ``scale * base ** (-2 i / dim)``, in the precision of ``positions``. All
    sines come first, then all cosines; with ``interleave`` they alternate.
    """
    exponents = torch.arange(dim // 2, dtype=positions.dtype) / (dim / 2)
    angles = positions[:, None] * (scale * (1.0 / base) ** exponents)
    if interleave:
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sincos_scaled(length: int, dim: int) -> torch.Tensor:
    """``length dim``: sines and cosines with wavelengths from 2 to ``2 * length`` positions."""
    return sincos(torch.arange(length).float(), dim, base=length, scale=math.pi)


def sincos_scaled_2d(side: int, dim: int) -> torch.Tensor:
    """``side*side dim``: half of the channels for the column, half for the row."""
    line = sincos_scaled(side, dim // 2)
    columns = repeat(line, "x c -> (y x) c", y=side)
    rows = repeat(line, "y c -> (y x) c", x=side)
    return torch.cat([columns, rows], dim=-1)


def sincos_3d(dim: int, side: int, frames: int, class_token: bool) -> torch.Tensor:
    """Fixed positions ``1 N dim`` of ``frames`` x ``side`` x ``side``, the last axis fastest.

    A quarter of the channels encodes time, three eighths the column and three eighths the row
    (PySlowFast's, after MAE). The class token has zeros. ``dim`` is a multiple of 16.
    """
    assert dim % 16 == 0, dim
    line = sincos(torch.arange(side).double(), dim // 8 * 3)
    pos = torch.cat(
        [
            repeat(
                sincos(torch.arange(frames).double(), dim // 4), "t c -> (t y x) c", y=side, x=side
            ),
            repeat(line, "x c -> (t y x) c", t=frames, y=side),
            repeat(line, "y c -> (t y x) c", t=frames, x=side),
        ],
        dim=1,
    )
    if class_token:
        pos = F.pad(pos, (0, 0, 1, 0))
    return pos[None].float()
