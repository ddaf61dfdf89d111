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


class FramePatchEmbed(nn.Module):
    """A strided 2-D convolution on every frame: ``B 3 T H W`` -> ``B T H' W' D``."""

    def __init__(self, dim: int, patch: int, in_channels: int = 3):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch, patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, _, t = x.shape[:3]
        frames = self.proj(x.transpose(1, 2).flatten(0, 1))
        return frames.unflatten(0, (b, t)).permute(0, 1, 3, 4, 2)
