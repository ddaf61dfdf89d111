"""Feed-forward layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import Mlp
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


_MULTIPLE = 8  # of rows and columns, for matrix products in half precision on GPUs


def pads_products(x: torch.Tensor) -> bool:
    """Whether matrix products of ``x`` are faster with sizes that are multiples of 8."""
    return x.device.type == "cuda"


def padding_of(size: int) -> int:
    """What ``size`` lacks to a multiple of 8."""
    return -size % _MULTIPLE


def padded_mlp(mlp: Mlp, x: torch.Tensor) -> torch.Tensor:
    """``mlp`` of ``... C`` with all sizes padded to multiples of 8 by zeros, without its dropout.

    ``x`` is padded already; the result has the outputs of ``mlp``, then zeros. Half-precision
    products of odd sizes miss the fast kernels of GPUs. Padding the weights at each call costs
    little beside such a product and leaves checkpoints as they are.
    """
    hidden = F.linear(x, _padded(mlp.fc1.weight), _padded(mlp.fc1.bias))
    return F.linear(mlp.act(hidden), _padded(mlp.fc2.weight), _padded(mlp.fc2.bias))


def _padded(weight: torch.Tensor) -> torch.Tensor:
    sizes = [n for size in reversed(weight.shape) for n in (0, padding_of(size))]
    return F.pad(weight, sizes)
