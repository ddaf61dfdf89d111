"""Feed-forward layers."""

from __future__ import annotations

import torch
from torch import nn

from slowfast.layers.conv import PointwiseConv3d


class ConvMlp(nn.Module):
    """MLP of every position of ``B C T H W``: 1x1x1 convolution, GELU, 1x1x1 convolution."""

    def __init__(self, dim: int, hidden_dim: int, drop: float = 0.0):
        super().__init__()
        self.fc1 = PointwiseConv3d(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = PointwiseConv3d(hidden_dim, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T H W`` -> ``B C T H W``."""
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))
