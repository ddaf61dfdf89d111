"""Residual blocks over clips, alone or side by side in several pathways.

ResNet (arXiv 1512.03385) with kernels over time, as in arXiv 1711.07971 (I3D, C2D), 1812.03982
(Slow, SlowFast) and 1711.09577 (3-D ResNets).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import nn

from slowfast.layers.checkpointing import run_checkpointed
from slowfast.layers.conv import conv3d, conv_norm

# depth -> (bottleneck, blocks of the four stages)
STAGE_DEPTHS = {
    10: (False, (1, 1, 1, 1)),
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
    200: (True, (3, 24, 36, 3)),
}


def run_convolutions(
    x: torch.Tensor, layers: Sequence[tuple[nn.Module, nn.Module]]
) -> torch.Tensor:
    """Pairs of a convolution and its normalisation, with a ReLU after each but the last."""
    for number, (conv, norm) in enumerate(layers, 1):
        x = conv_norm(conv, norm, x)
        if number < len(layers):
            x = F.relu(x, inplace=True)
    return x


class Branch(nn.Module):
    """Convolutions ``a``, ``b``, … with their normalisations ``a_bn``, ``b_bn``, …"""

    def add(self, name: str, conv: nn.Conv3d) -> None:
        """Append a convolution; the last one that is added ends the branch."""
        self.add_module(name, conv)
        self.add_module(f"{name}_bn", nn.BatchNorm3d(conv.out_channels))
        self.last_conv, self.last_norm = name, f"{name}_bn"

    def start_at_zero(self, norm: bool, conv: bool) -> None:
        """Let the block begin as its shortcut: last normalisation, or last convolution, zero."""
        if norm:
            nn.init.zeros_(getattr(self, self.last_norm).weight)
        if conv:
            nn.init.zeros_(getattr(self, self.last_conv).weight)


class BottleneckBranch(Branch):
    """k x1x1, 1x3x3 and 1x1x1 convolutions; ``stride_1x1`` puts the stride into the first."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        inner: int,
        *,
        temporal_kernel: int,
        stride: int,
        groups: int = 1,
        dilation: int = 1,
        stride_1x1: bool = False,
    ):
        super().__init__()
        first, second = (stride, 1) if stride_1x1 else (1, stride)
        size = (temporal_kernel, 1, 1)
        self.add("a", conv3d(in_channels, inner, size, (1, first, first)))
        spatial = conv3d(
            inner, inner, (1, 3, 3), (1, second, second), groups=groups, dilation=dilation
        )
        self.add("b", spatial)
        self.add("c", conv3d(inner, channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T H W`` -> ``B D T H' W'``."""
        return run_convolutions(x, [(self.a, self.a_bn), (self.b, self.b_bn), (self.c, self.c_bn)])


class BasicBranch(Branch):
    """A k x3x3 convolution with the stride and a 1x3x3 convolution."""

    def __init__(self, in_channels: int, channels: int, *, temporal_kernel: int, stride: int):
        super().__init__()
        size = (temporal_kernel, 3, 3)
        self.add("a", conv3d(in_channels, channels, size, (1, stride, stride)))
        self.add("b", conv3d(channels, channels, (1, 3, 3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T H W`` -> ``B D T H' W'``."""
        return run_convolutions(x, [(self.a, self.a_bn), (self.b, self.b_bn)])


class ResBlock(nn.Module):
    """ReLU of a branch plus a shortcut, which is a 1x1x1 convolution where the shape changes.

    ``drop_connect``: share of the clips of a training batch whose branch is left out.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        branch: nn.Module,
        *,
        stride: int,
        drop_connect: float = 0.0,
    ):
        super().__init__()
        self.projects = in_channels != channels or stride != 1
        if self.projects:
            self.branch1 = conv3d(in_channels, channels, 1, (1, stride, stride))
            self.branch1_bn = nn.BatchNorm3d(channels)
        self.branch2 = branch
        self.drop_path = DropPath(drop_connect) if drop_connect > 0 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T H W`` -> ``B D T H' W'``."""
        shortcut = conv_norm(self.branch1, self.branch1_bn, x) if self.projects else x
        return F.relu(shortcut + self.drop_path(self.branch2(x)), inplace=True)


class Pathways(nn.Sequential):
    """Blocks of pathways that run side by side: a list of clips -> a list of clips.

    ``pathways`` gives the blocks of each by name, in order; block ``res0`` of pathway 1 is the
    part ``pathway1_res0``. The first ``num_checkpointed`` of each store no activations.
    """

    def __init__(self, pathways: Iterable[Mapping[str, nn.Module]], num_checkpointed: float = 0):
        super().__init__()
        self.num_checkpointed, self.names = num_checkpointed, []
        for number, blocks in enumerate(pathways):
            names = [f"pathway{number}_{name}" for name in blocks]
            for name, block in zip(names, blocks.values()):
                self.add_module(name, block)
            self.names.append(names)

    def forward(self, clips: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """One clip batch ``B C T H W`` per pathway -> the same."""
        return [
            run_checkpointed((getattr(self, name) for name in names), x, self.num_checkpointed)
            for names, x in zip(self.names, clips, strict=True)
        ]


def init_convolutions(network: nn.Module) -> None:
    """Convolutions normal with variance 2 / fan-out (arXiv 1502.01852), their biases zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
