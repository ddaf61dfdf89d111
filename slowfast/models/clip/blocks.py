"""Residual attention blocks of CLIP's transformers, under the published names, and their registry.

Tokens are ``B*T N C``: the class token, then the patches of a frame; frames are fastest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.layers.attention import attend
from slowfast.utils.registry import Registry

HEAD_DIM = 64

CLIP_BLOCK_REGISTRY: Registry[type[ClipBlock]] = Registry(
    "temporal modelling", "MODEL.TEMPORAL_MODELING_TYPE"
)
BlockBuilder = Callable[[int], "ClipBlock"]


class TokenCount(NamedTuple):
    """Tokens that the attention of a block takes per frame."""

    queries: int
    keys: int


class QuickGelu(nn.Module):
    """``x * sigmoid(1.702 x)``, the activation that OpenAI's CLIP was trained with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


class LayerNormFp32(nn.LayerNorm):
    """Layer normalisation computed in float32; the output has the precision of the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.float()).to(x.dtype)


class ClipAttention(nn.Module):
    """Multi-head attention with the parameter names and the initialisation of
    :class:`torch.nn.MultiheadAttention`."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        x: torch.Tensor,
        kv_transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        causal: bool = False,
    ) -> torch.Tensor:
        """``B N C`` -> ``B N C``; ``kv_transform`` maps keys and values ``B N C`` -> ``B M C``."""
        q, k, v = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        if kv_transform is not None:
            k, v = kv_transform(k), kv_transform(v)
        q, k, v = (y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y in (q, k, v))
        y = attend(q, k, v, causal=causal)
        return self.out_proj(y.transpose(1, 2).flatten(2))


@CLIP_BLOCK_REGISTRY.register("")
class ClipBlock(nn.Module):
    """``x + attn(ln_1 x)``, then ``x + mlp(ln_2 x)``: no frame sees another one.

    A block with temporal modelling is a subclass that overrides :meth:`attend`, registered under
    the value of MODEL.TEMPORAL_MODELING_TYPE that selects it::

        @CLIP_BLOCK_REGISTRY.register("my_attention")
        class MyBlock(ClipBlock): ...

    ``options`` are those of :meth:`options_from_cfg`; None stands for the block's defaults.
    """

    def __init__(self, dim: int, options: Any = None):
        super().__init__()
        self.attn = ClipAttention(dim, dim // HEAD_DIM)
        self.ln_1 = LayerNormFp32(dim)
        layers = (
            ("c_fc", nn.Linear(dim, 4 * dim)),
            ("gelu", QuickGelu()),
            ("c_proj", nn.Linear(4 * dim, dim)),
        )
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = LayerNormFp32(dim)

    @classmethod
    def options_from_cfg(cls, cfg: CfgNode) -> Any:
        """The options of this kind of block in a configuration."""
        return None

    @classmethod
    def tokens(cls, patches: int, options: Any = None) -> TokenCount:
        """Tokens per frame of ``patches`` patches, for benchmarks."""
        return TokenCount(patches + 1, patches + 1)

    def attend(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        """First half of the block, residual included: ``B*T N C`` -> ``B*T N C``."""
        return x + self.attn(self.ln_1(x))

    def forward(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        """``B*T N C`` -> ``B*T N C``; ``frames`` is T."""
        x = self.attend(x, frames)
        return x + self.mlp(self.ln_2(x))


@CLIP_BLOCK_REGISTRY.register("None")
class PlainBlock(ClipBlock):
    """CLIP's own block under the name that old files give it."""


class CausalBlock(ClipBlock):
    """A block of the text tower: a token sees itself and the tokens before it."""

    def attend(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        return x + self.attn(self.ln_1(x), causal=True)
