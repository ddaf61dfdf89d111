"""TRX (arXiv 2101.06184): frame tuples of a query attend to those of the support clips.

N episodes, K classes, S shots, Q queries, T frames with D features.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn


def frame_positions(num_frames: int, dim: int, scale: float = 0.1) -> torch.Tensor:
    """Alternating sines and cosines of the frame's number, times ``scale``: ``1 num_frames dim``.

    As released, to the bit: buffers of published weights are compared with it.
    """
    rates = torch.exp(torch.arange(0, dim, 2) * -(math.log(10000.0) / dim))
    angles = torch.arange(num_frames)[:, None] * rates
    table = torch.zeros(num_frames, dim)
    table[:, 0::2] = angles.sin()
    table[:, 1::2] = angles.cos()[:, : dim // 2]
    return scale * table[None]


class _Positions(nn.Module):
    def __init__(self, num_frames: int, dim: int, dropout: float):
        super().__init__()
        self.register_buffer("pe", frame_positions(int(1.5 * num_frames), dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(x + self.pe[:, : x.shape[-2]])


class TupleAttention(nn.Module):
    """Attention between all ordered tuples of ``tuple_size`` of ``num_frames`` frames.

    ``dim``: features of a frame; ``attention_dim``: width of keys and values; ``dropout``: after
    the positions of the frames are added.
    """

    def __init__(
        self, num_frames: int, dim: int, attention_dim: int, tuple_size: int, dropout: float
    ):
        super().__init__()
        self.pe = _Positions(num_frames, dim, dropout)
        self.k_linear = nn.Linear(tuple_size * dim, attention_dim)
        self.v_linear = nn.Linear(tuple_size * dim, attention_dim)
        self.norm_k = nn.LayerNorm(attention_dim)
        # Released weights have it; it is never used.
        self.norm_v = nn.LayerNorm(attention_dim).requires_grad_(False)
        tuples = torch.tensor(list(itertools.combinations(range(num_frames), tuple_size)))
        self.register_buffer("tuples", tuples, persistent=False)

    def _keys_and_values(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``… T D`` -> keys and values of the P tuples, ``… P attention_dim``."""
        shape = frames.shape[:-2]
        x = self.pe(frames.flatten(0, -3))[:, self.tuples].flatten(-2)
        x = x.unflatten(0, shape)
        return self.norm_k(self.k_linear(x)), self.v_linear(x)

    def forward(self, support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """``N K S T D``, ``N Q T D`` -> negative squared distances ``N Q K``.

        The distance is that between the values of a query and the values of a class, weighted by
        attention, averaged over the P tuples of the query.
        """
        support_kv, query_kv = self._keys_and_values(support), self._keys_and_values(queries)
        keys, values = (x.flatten(2, 3)[:, None] for x in support_kv)  # N 1 K S*P O
        q_keys, q_values = (x[:, :, None] for x in query_kv)  # N Q 1 P O
        scores = (q_keys @ keys.mT / math.sqrt(keys.shape[-1])).softmax(-1)
        prototypes = scores @ values  # N Q K P O
        return -(q_values - prototypes).square().sum((-1, -2)) / q_values.shape[-2]


class TrxHead(nn.Module):
    """Mean logits of :class:`TupleAttention` over tuples of several sizes."""

    def __init__(
        self,
        num_frames: int,
        dim: int,
        attention_dim: int = 1152,
        tuple_sizes: Sequence[int] = (2, 3),
        dropout: float = 0.1,
    ):
        super().__init__()
        self.transformers = nn.ModuleList(
            TupleAttention(num_frames, dim, attention_dim, size, dropout) for size in tuple_sizes
        )

    def forward(self, support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """``N K S T D``, ``N Q T D`` -> logits ``N Q K``."""
        return torch.stack([branch(support, queries) for branch in self.transformers]).mean(0)
