"""Patch embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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
    doubling up to ``width``, then a linear layer: ``B C H W`` -> ``B width H/patch W/patch``.
    """

    def __init__(self, patch: int, width: int, in_channels: int = 3):
        strides = prime_factors(patch) or [1]
        halvings = reversed(range(len(strides)))
        channels = [in_channels, *(max(width >> number, min(width, 8)) for number in halvings)]
        layers: list[nn.Module] = []
        for stride, before, after in zip(strides, channels, channels[1:]):
            layers += [
                nn.Conv2d(before, after, 3, stride, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        super().__init__(*layers, nn.Conv2d(width, width, 1, bias=False))


def prime_factors(number: int) -> list[int]:
    """In ascending order: 12 -> 2, 2, 3."""
    for factor in range(2, number + 1):
        if number % factor == 0:
            return [factor, *prime_factors(number // factor)]
    return []


class FramePatchEmbed(nn.Module):
    """Patches of every frame: ``B 3 T H W`` -> ``B T H' W' D``.

    ``stem`` is how pixels become a patch: ``patch`` (a strided convolution), ``conv``
    (:class:`ConvStem`) or ``conv3d``, whose first convolution sees the frames before and after too.
    """

    def __init__(self, dim: int, patch_size: int, in_channels: int = 3, *, stem: str = "patch"):
        super().__init__()
        self.patch_size, self.sees_neighbours = patch_size, stem == "conv3d"
        if stem == "patch":
            self.proj: nn.Module = nn.Conv2d(in_channels, dim, patch_size, patch_size)
        else:
            channels = 3 * in_channels if self.sees_neighbours else in_channels
            self.proj = ConvStem(patch_size, dim, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> ``B T H' W' D``."""
        if self.sees_neighbours:
            # A 3x3x3 convolution, as one over the channels of three frames; zeros at the ends.
            padded = F.pad(x, (0, 0, 0, 0, 1, 1))
            x = torch.cat([padded[:, :, :-2], x, padded[:, :, 2:]], dim=1)
        frames = self.proj(rearrange(x, "b c t h w -> (b t) c h w"))
        return rearrange(frames, "(b t) c h w -> b t h w c", b=x.shape[0])
