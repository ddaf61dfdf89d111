"""Convolutions."""

from __future__ import annotations

import torch
from torch import nn


class DepthwiseConv3d(nn.Conv3d):
    """A convolution of each channel by itself on ``B C T H W``, same size, odd ``kernel``.

    On the CPU it stays in float32 under autocast: there the weight gradients of small bfloat16
    depthwise convolutions are at times not numbers of this world (1e+32, seen with PyTorch 2.15).
    """

    def __init__(self, channels: int, kernel: int):
        super().__init__(channels, channels, kernel, padding=kernel // 2, groups=channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)
