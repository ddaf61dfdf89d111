"""TRX (arXiv 2101.06184): queries' tuples of frames attend to those of the support clips."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn


def frame_positions(frames: int, dim: int, scale: float = 0.1) -> torch.Tensor:
    """Sines and cosines of the frame's number, in turn, times ``scale``: ``1 frames dim``."""
    rates = torch.exp(torch.arange(0, dim, 2) * -(math.log(10000.0) / dim))
    angles = torch.arange(frames)[:, None] * rates
    table = torch.zeros(frames, dim)
    table[:, 0::2] = angles.sin()
    table[:, 1::2] = angles.cos()[:, : dim // 2]
    return scale * table[None]


class _Positions(nn.Module):
    def __init__(self, frames: int, dim: int, dropout: float):
        super().__init__()
        self.register_buffer("pe", frame_positions(int(1.5 * frames), dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(x + self.pe[:, : x.shape[-2]])


class TupleAttention(nn.Module):
    """One cardinality: all ordered tuples of ``size`` frames."""

    def __init__(self, frames: int, dim: int, out: int, size: int, dropout: float):
        super().__init__()
        self.pe = _Positions(frames, dim, dropout)
        self.k_linear = nn.Linear(size * dim, out)
        self.v_linear = nn.Linear(size * dim, out)
        self.norm_k = nn.LayerNorm(out)
        self.norm_v = nn.LayerNorm(out).requires_grad_(False)  # in released weights; never used
        tuples = torch.tensor(list(itertools.combinations(range(frames), size)))
        self.register_buffer("tuples", tuples, persistent=False)

    def _tuples(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``… T D`` -> keys and values of all tuples, ``… n O``."""
        shape = frames.shape[:-2]
        x = self.pe(frames.flatten(0, -3))[:, self.tuples].flatten(-2)
        x = x.unflatten(0, shape)
        return self.norm_k(self.k_linear(x)), self.v_linear(x)

    def forward(self, support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """``N K S T D``, ``N Q T D`` -> logits ``N Q K``."""
        keys, values = (x.flatten(2, 3)[:, None] for x in self._tuples(support))  # N 1 K S*n O
        q_keys, q_values = (x[:, :, None] for x in self._tuples(queries))  # N Q 1 n O
        scores = (q_keys @ keys.mT / math.sqrt(keys.shape[-1])).softmax(-1)
        prototypes = scores @ values  # N Q K n O
        return -(q_values - prototypes).square().sum((-1, -2)) / q_values.shape[-2]


class TrxHead(nn.Module):
    """Mean over the cardinalities ``sizes``."""

    def __init__(
        self,
        frames: int,
        dim: int,
        out: int = 1152,
        sizes: Sequence[int] = (2, 3),
        dropout: float = 0.1,
    ):
        super().__init__()
        self.transformers = nn.ModuleList(
            TupleAttention(frames, dim, out, size, dropout) for size in sizes
        )

    def forward(self, support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """``N K S T D``, ``N Q T D`` -> logits ``N Q K``."""
        return torch.stack([branch(support, queries) for branch in self.transformers]).mean(0)
