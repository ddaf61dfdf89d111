"""All that works around wrong numbers of the CPU, for whole networks."""

from __future__ import annotations

from torch import nn

from slowfast.layers.norm import with_batch1_safe_norm
from slowfast.layers.safe_conv import with_safe_convolutions


def with_cpu_workarounds(network: nn.Module) -> nn.Module:
    """``network`` with layers that work around wrong gradients of PyTorch on the CPU; on other
    devices they compute what they always did."""
    return with_batch1_safe_norm(with_safe_convolutions(network))
