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


class ConvStem(nn.Sequential):
    """Patches by 3 x 3 convolutions with batch normalisation and ReLU, instead of one linear map:
    a transformer without pretraining learns faster ("Early Convolutions Help Transformers See
    Better", arXiv 2106.14881).

    One convolution for each prime factor of the side ``patch``, which is its stride, the channels
    doubling up to ``width``, then a linear layer: ``B 3 H W`` -> ``B width H/patch W/patch``.
    ``over_time``: of 3 x 3 x 3, ``B 3 T H W`` -> ``B width T H/patch W/patch``.
    """

    def __init__(self, patch: int, width: int, *, over_time: bool = False):
        strides = prime_factors(patch) or [1]
        halvings = reversed(range(len(strides)))
        channels = [3, *(max(width >> number, min(width, 8)) for number in halvings)]
        conv: type[nn.Conv2d] | type[nn.Conv3d] = nn.Conv3d if over_time else nn.Conv2d
        norm = nn.BatchNorm3d if over_time else nn.BatchNorm2d
        layers: list[nn.Module] = []
        for side, before, after in zip(strides, channels, channels[1:]):
            stride = (1, side, side) if over_time else (side, side)
            layers += [
                conv(before, after, 3, stride, 1, bias=False),  # type: ignore[arg-type]
                norm(after),
                nn.ReLU(),
            ]
        super().__init__(*layers, conv(width, width, 1, bias=False))
        self.over_time = over_time


def prime_factors(number: int) -> list[int]:
    """In ascending order: 12 -> 2, 2, 3."""
    for factor in range(2, number + 1):
        if number % factor == 0:
            return [factor, *prime_factors(number // factor)]
    return []


def build_stem(stem: str, patch: int, dim: int, *, bias: bool = True) -> nn.Module:
    """How the pixels of frames become patches: ``patch`` (a strided convolution, with ``bias`` or
    without), ``conv`` (:class:`ConvStem`) or ``conv3d`` (the same, over frames too)."""
    if stem == "patch":
        return nn.Conv2d(3, dim, patch, patch, bias=bias)
    return ConvStem(patch, dim, over_time=stem == "conv3d")


def embed_frames(stem: nn.Module, video: torch.Tensor) -> torch.Tensor:
    """Patches of every frame by what :func:`build_stem` gives: ``B 3 T H W`` -> ``B T H' W' D``."""
    if isinstance(stem, ConvStem) and stem.over_time:
        return stem(video).movedim(1, -1)
    frames = stem(rearrange(video, "b c t h w -> (b t) c h w"))
    return rearrange(frames, "(b t) c h w -> b t h w c", b=video.shape[0])


class FramePatchEmbed(nn.Module):
    """:func:`embed_frames` as a module; ``stem`` is that of :func:`build_stem`."""

    def __init__(self, dim: int, patch_size: int, *, stem: str = "patch"):
        super().__init__()
        self.patch_size = patch_size
        self.proj = build_stem(stem, patch_size, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> ``B T H' W' D``."""
        return embed_frames(self.proj, x)
