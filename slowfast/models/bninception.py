"""BN-Inception (arXiv 1502.03167) under the names of the public PyTorch conversion."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


class _Block(NamedTuple):
    """Channels of an inception block's branches.

    ``conv1`` of the 1x1 branch (0: there is none, and the block halves the resolution), (reduction,
    output) of the 3x3 and of the double 3x3 branch, ``pool_proj`` after pooling (0: none).
    """

    name: str
    conv1: int
    conv3: tuple[int, int]
    double: tuple[int, int]
    pool_proj: int
    max_pool: bool = False


_BLOCKS = (
    _Block("3a", 64, (64, 64), (64, 96), 32),
    _Block("3b", 64, (64, 96), (64, 96), 64),
    _Block("3c", 0, (128, 160), (64, 96), 0),
    _Block("4a", 224, (64, 96), (96, 128), 128),
    _Block("4b", 192, (96, 128), (96, 128), 128),
    _Block("4c", 160, (128, 160), (128, 160), 128),
    _Block("4d", 96, (128, 192), (160, 192), 128),
    _Block("4e", 0, (128, 192), (192, 256), 0),
    _Block("5a", 352, (192, 320), (160, 224), 128),
    _Block("5b", 352, (192, 320), (192, 224), 128, max_pool=True),
)


class BNInception(nn.Module):
    """Images ``N 3 H W`` (BGR, 0..255 minus the mean) -> maps ``N 1024 H/32 W/32``."""

    num_features = 1024

    def __init__(self) -> None:
        super().__init__()
        self._add("conv1_7x7_s2", 3, 64, 7, stride=2)
        self._add("conv2_3x3_reduce", 64, 64, 1)
        self._add("conv2_3x3", 64, 192, 3)
        channels = 192
        for block in _BLOCKS:
            channels = self._add_block(block, channels)

    def _add(
        self, name: str, in_channels: int, channels: int, kernel: int, stride: int = 1
    ) -> None:
        conv = nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias)
        self.add_module(name, conv)
        self.add_module(f"{name}_bn", nn.BatchNorm2d(channels, momentum=0.9))

    def _add_block(self, block: _Block, channels: int) -> int:
        """Add the convolutions of a block; returns its number of output channels."""
        prefix, stride = f"inception_{block.name}_", 1 if block.conv1 else 2
        if block.conv1:
            self._add(prefix + "1x1", channels, block.conv1, 1)
        self._add(prefix + "3x3_reduce", channels, block.conv3[0], 1)
        self._add(prefix + "3x3", *block.conv3, 3, stride)
        self._add(prefix + "double_3x3_reduce", channels, block.double[0], 1)
        self._add(prefix + "double_3x3_1", *block.double, 3)
        self._add(prefix + "double_3x3_2", block.double[1], block.double[1], 3, stride)
        if block.pool_proj:
            self._add(prefix + "pool_proj", channels, block.pool_proj, 1)
        return block.conv1 + block.conv3[1] + block.double[1] + (block.pool_proj or channels)

    def _unit(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Convolution, batch normalisation, ReLU."""
        return F.relu(getattr(self, f"{name}_bn")(getattr(self, name)(x)), inplace=True)

    def _block(self, block: _Block, x: torch.Tensor) -> torch.Tensor:
        prefix = f"inception_{block.name}_"
        branches = [self._unit(prefix + "1x1", x)] if block.conv1 else []
        branches.append(self._unit(prefix + "3x3", self._unit(prefix + "3x3_reduce", x)))
        double = self._unit(prefix + "double_3x3_reduce", x)
        double = self._unit(prefix + "double_3x3_1", double)
        branches.append(self._unit(prefix + "double_3x3_2", double))
        if not block.conv1:
            branches.append(F.max_pool2d(x, 3, 2, ceil_mode=True))
        else:
            pool = F.max_pool2d if block.max_pool else F.avg_pool2d
            pooled = pool(x, 3, 1, padding=1, ceil_mode=True)
            branches.append(self._unit(prefix + "pool_proj", pooled))
        return torch.cat(branches, dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self._unit("conv1_7x7_s2", x), 3, 2, ceil_mode=True)
        x = self._unit("conv2_3x3", self._unit("conv2_3x3_reduce", x))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        for block in _BLOCKS:
            x = self._block(block, x)
        return x
