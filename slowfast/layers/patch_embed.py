"""Patch embedding."""

from __future__ import annotations

import torch
from torch import nn


class ConvPatchEmbed(nn.Module):
    """Strided convolution and LayerNorm over channels: ``B C T H W`` -> ``B D T' H' W'``."""

    def __init__(
        self,
        in_channels: int,
        dim: int,
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int],
        padding: tuple[int, int, int] = (0, 0, 0),
    ):
        super().__init__()
        self.proj = nn.Conv3d(in_channels, dim, kernel, stride, padding)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.proj(x).movedim(1, -1)).movedim(-1, 1)
