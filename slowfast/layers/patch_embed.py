"""Patch embedding."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import nn

from slowfast.layers.conv import PatchConv3d


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
        self.proj = PatchConv3d(in_channels, dim, kernel, stride, padding)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T H W`` -> ``B D T' H' W'``."""
        return self.norm(self.proj(x).movedim(1, -1)).movedim(-1, 1)


class FramePatchEmbed(nn.Module):
    """Strided 2-D convolution of every frame: ``B 3 T H W`` -> ``B T H' W' D``."""

    def __init__(self, dim: int, patch_size: int, in_channels: int = 3):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch_size, patch_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> ``B T H' W' D``."""
        frames = self.proj(rearrange(x, "b c t h w -> (b t) c h w"))
        return rearrange(frames, "(b t) c h w -> b t h w c", b=x.shape[0])
