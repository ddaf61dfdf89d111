"""Non-local blocks (arXiv 1711.07971): every position of a clip looks at all others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.layers.conv import conv3d, conv_norm

NONLOCAL_KINDS = ("softmax", "dot_product")


class NonLocal(nn.Module):
    """``x`` plus what its positions see of each other, on ``B C T H W``.

    Args:
        channels: of the clip; the positions are compared in half as many.
        kind: weights of the positions that are looked at: softmax of the scaled products, or
            dot_product, the products divided by the number of positions.
        pool: size over time, rows and columns of the maximum that is taken over what is looked at.
        groups: number of consecutive parts of the clip that do not see each other.
    """

    def __init__(
        self, channels: int, *, kind: str, pool: Sequence[int] = (1, 1, 1), groups: int = 1
    ):
        super().__init__()
        inner = channels // 2
        self.kind, self.pool, self.groups = kind, tuple(pool), groups
        self.conv_theta = conv3d(channels, inner, 1, bias=True)
        self.conv_phi = conv3d(channels, inner, 1, bias=True)
        self.conv_g = conv3d(channels, inner, 1, bias=True)
        self.conv_out = conv3d(inner, channels, 1, bias=True)
        self.bn = nn.BatchNorm3d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T H W`` -> ``B C T H W``."""
        if self.groups == 1:
            return x + self._look(x)
        parts = torch.cat(x.chunk(self.groups, dim=2))
        return x + torch.cat(self._look(parts).chunk(self.groups), dim=2)

    def _look(self, x: torch.Tensor) -> torch.Tensor:
        seen = F.max_pool3d(x, self.pool, self.pool) if max(self.pool) > 1 else x
        query = _positions(self.conv_theta(x))
        key, value = _positions(self.conv_phi(seen)), _positions(self.conv_g(seen))
        if self.kind == "softmax":
            one_head = (x[:, None] for x in (query, key, value))
            found = F.scaled_dot_product_attention(*one_head)[:, 0]
        else:
            # (query key^T) value = query (key^T value), which grows with the positions, not with
            # their square.
            found = query @ ((key / key.shape[1]).mT @ value)
        found = found.mT.reshape(len(x), -1, *x.shape[2:])
        return conv_norm(self.conv_out, self.bn, found)

    def start_at_zero(self, norm: bool, conv: bool) -> None:
        """Let the block begin as the identity: normalisation, or last convolution, zero."""
        if norm:
            nn.init.zeros_(self.bn.weight)
        if conv:
            nn.init.zeros_(self.conv_out.weight)


def _positions(x: torch.Tensor) -> torch.Tensor:
    """``B C T H W`` -> ``B N C``."""
    return x.flatten(2).mT
