"""From the output of a network back to the clip, through its recorded attention.

A token's *share* says how much of the answer came through it: numbers of at least 0 whose sum over
a clip is 1. At the output the class token has the whole share (or all tokens the same, where the
network takes their mean). A block hands shares of its output tokens back to its input tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from slowfast.models.looks.record import ForwardRecord
from slowfast.utils.errors import UserError

_ROLLOUT_SKIP = 0.5


class Trace:
    """Shares on their way back through the attention of ``record``.

    ``rollout`` follows all blocks: half of the shares by the skip connection, half by the
    attention (attention roll-out, arXiv 2005.00928). Otherwise only the attention of the last block
    of each sequence counts, or that of ``layer``, and all other blocks leave tokens where they are.
    """

    def __init__(self, record: ForwardRecord, rollout: bool, layer: str = ""):
        self.record, self.rollout, self.layer = record, rollout, layer
        self.skip = _ROLLOUT_SKIP  # share of the skip connection in the present block
        self.blocks: list[str] = []  # all that were met
        self.used: list[str] = []
        self.token_shares: torch.Tensor | None = None  # B T' N of the tokens of STFM

    def backwards(self, names: Sequence[str]) -> Iterator[str]:
        """Names of blocks in the order of the network -> the same from last to first."""
        named = [name for name in names if self._is_layer(name)]
        counted = named[-1] if named else names[-1] if names else ""
        self.blocks += names
        for name in reversed(names):
            used = self.rollout or name == counted
            self.skip = _ROLLOUT_SKIP if self.rollout else float(not used)
            self.used += [name] if used else []
            yield name

    def _is_layer(self, name: str) -> bool:
        return bool(self.layer) and (name == self.layer or name.endswith(f".{self.layer}"))

    def check(self) -> None:
        """UserError if the layer that was asked for is none of the blocks."""
        if self.layer and not any(map(self._is_layer, self.blocks)):
            names = ", ".join(self.blocks)
            raise UserError(
                f"{self.layer!r} is no block with attention", f"one of {names}", "--layer"
            )

    def attend(self, shares: torch.Tensor, name: str, call: int = 0) -> torch.Tensor:
        """Shares of queries ``P N`` -> of keys ``P M``, by the weights of module ``name``."""
        weights = self.record.attention[name][call]
        return (shares.unsqueeze(1) @ weights.to(shares)).squeeze(1)

    def through(self, shares: torch.Tensor, name: str, call: int = 0) -> torch.Tensor:
        """Back through skip connection and attention of module ``name``: ``P N`` -> ``P N``."""
        if self.skip == 1:
            return shares
        return self.skip * shares + (1 - self.skip) * self.attend(shares, name, call)


def first_token(rows: int, tokens: int, share: float = 1.0) -> torch.Tensor:
    """Shares ``rows tokens`` that the class token has alone."""
    shares = torch.zeros(rows, tokens)
    shares[:, 0] = share
    return shares


def all_tokens(rows: int, tokens: int) -> torch.Tensor:
    """Equal shares ``rows tokens``."""
    return torch.full((rows, tokens), 1 / tokens)


def unpool(shares: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Shares of a pooled grid ``B t h w`` -> of the grid before it, of ``size``.

    The share of a position is divided equally among the positions that it stands for.
    """
    for axis, length in enumerate(size, 1):
        pooled = shares.shape[axis]
        index = torch.arange(length) * pooled // length
        counts = torch.bincount(index, minlength=pooled).to(shares)
        shape = [1] * shares.ndim
        shape[axis] = length
        shares = shares.index_select(axis, index) / counts[index].view(shape)
    return shares


def normalized(shares: torch.Tensor) -> torch.Tensor:
    """Shares ``B T H W`` whose sum over each clip is 1, without what class tokens kept."""
    total = shares.sum((1, 2, 3), keepdim=True)
    return shares / total.clamp_min(torch.finfo(shares.dtype).tiny)
