"""Convolutions that work around wrong gradients of oneDNN in bfloat16."""

from __future__ import annotations

import functools

import torch
from torch import nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class SmallMapSafe:
    """Part of a convolution that computes small maps in float32 under autocast on the CPU.

    Where a padded axis of the input is not longer than the kernel, oneDNN leaves a part of the
    weight's gradient in bfloat16 as it was in memory (seen in PyTorch 2.15; values from another
    tensor, or inf), and in some cases writes beyond it.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``B C ...`` -> ``B D ...``."""
        if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        if not self._is_small(input):
            return super().forward(input)
        dtype = torch.get_autocast_dtype("cpu")
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float()).to(dtype)

    def _is_small(self, input: torch.Tensor) -> bool:
        axes = zip(input.shape[2:], self.kernel_size, self.dilation, strict=True)
        short = any(1 < d * (k - 1) + 1 >= size for size, k, d in axes)
        return short and (isinstance(self.padding, str) or any(self.padding))


@functools.cache
def _safe_class(kind: type[nn.Module]) -> type[nn.Module]:
    return type(f"SmallMapSafe{kind.__name__}", (SmallMapSafe, kind), {})


def with_safe_convolutions(network: nn.Module) -> nn.Module:
    """``network`` with every convolution turned into a :class:`SmallMapSafe` one.

    Layers change their class in place: parameters, names and hooks stay as they are.
    """
    for module in network.modules():
        if isinstance(module, _CONVOLUTIONS) and not isinstance(module, SmallMapSafe):
            module.__class__ = _safe_class(type(module))
    return network
