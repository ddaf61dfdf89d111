"""Convolutions."""

from __future__ import annotations

import torch
from torch import nn


class DepthwiseConv3d(nn.Conv3d):
    """Depthwise convolution ``B C T H W`` -> ``B C T H W``; ``kernel`` is odd.

    It runs in float32 under autocast on the CPU: bfloat16 weight gradients of small depthwise
    convolutions can be garbage there (1e32, seen with PyTorch 2.15).
    """

    def __init__(self, channels: int, kernel: int):
        super().__init__(channels, channels, kernel, padding=kernel // 2, groups=channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)
