"""Position embeddings of other sizes than they were made for, and fixed ones."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def resize_grid(pos: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """``1 1+N C`` (class token, then a square grid) -> ``1 1+height*width C``.

    Nearest neighbour, as the published TimeSformer does; unchanged where the size fits.
    """
    if pos.shape[1] == 1 + height * width:
        return pos
    side = math.isqrt(pos.shape[1] - 1)
    grid = pos[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, size=(height, width), mode="nearest")
    return torch.cat([pos[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def resize_line(pos: torch.Tensor, length: int) -> torch.Tensor:
    """``1 T C`` -> ``1 length C``, nearest neighbour; unchanged where the size fits."""
    if pos.shape[1] == length:
        return pos
    return F.interpolate(pos.transpose(1, 2), size=length, mode="nearest").transpose(1, 2)


def resize_pos_spatial(weight: torch.Tensor, positions: int) -> torch.Tensor:
    """Spatial position embedding ``1 N C`` of a square grid -> ``1 positions C``, bicubic."""
    side, new_side = math.isqrt(weight.shape[1]), math.isqrt(positions)
    grid = weight.reshape(1, side, side, -1).permute(0, 3, 1, 2).float()
    size = (new_side, new_side)
    resized = F.interpolate(grid, size=size, mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).reshape(1, positions, -1).to(weight.dtype)


def resize_table(weight: torch.Tensor, places: int) -> torch.Tensor:
    """CLIP's positions ``1+N C`` -> ``places C``: the grid resized, bicubic; unchanged where it
    fits."""
    if len(weight) == places:
        return weight
    return torch.cat([weight[:1], resize_pos_spatial(weight[None, 1:], places - 1)[0]])


def waves(length: int, dim: int) -> torch.Tensor:
    """``length dim``: sines and cosines whose half waves span one place up to all of them."""
    rates = math.pi * (1 / length) ** (torch.arange(dim // 2) / (dim / 2))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def waves_2d(side: int, dim: int) -> torch.Tensor:
    """``side*side dim``: half of the channels for the column, half for the row."""
    line = waves(side, dim // 2)
    columns, rows = line.expand(side, -1, -1), line[:, None].expand(-1, side, -1)
    return torch.cat([columns, rows], dim=-1).flatten(0, 1)


def sincos_1d(dim: int, positions: torch.Tensor) -> torch.Tensor:
    """Sines, then cosines, of ``positions`` at ``dim / 2`` frequencies: ``N dim``."""
    omega = 1.0 / 10000 ** (torch.arange(dim // 2, dtype=torch.float64) / (dim / 2.0))
    angles = positions.flatten().double()[:, None] * omega
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sincos_3d(dim: int, side: int, frames: int, class_token: bool) -> torch.Tensor:
    """Fixed positions ``1 N dim``, a quarter of the channels for time, the rest for space.

    PySlowFast's (after MAE): time first, then the columns' and rows' halves of space.
    """
    assert dim % 16 == 0, dim
    spatial, temporal = dim // 4 * 3, dim // 4
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    space = torch.cat([sincos_1d(spatial // 2, columns), sincos_1d(spatial // 2, rows)], dim=1)
    time = sincos_1d(temporal, torch.arange(frames))
    both = torch.cat(
        [time[:, None].expand(-1, side**2, -1), space[None].expand(frames, -1, -1)], dim=-1
    )
    pos = both.flatten(0, 1)
    if class_token:
        pos = torch.cat([torch.zeros(1, dim, dtype=pos.dtype), pos])
    return pos[None].float()
