"""Multi-head self-attention and the plain transformer block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp
from torch import nn

MAX_BATCH = 65535  # problems that PyTorch's fused attention on CUDA takes at once


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    dropout: float = 0.0,
    scale: float | None = None,
    causal: bool = False,
) -> torch.Tensor:
    """Scaled dot-product attention of queries ``B heads N c`` to keys and values ``B heads M c``.

    ``scale`` defaults to ``c ** -0.5``; ``causal``: a query sees only keys up to its own number.
    There is no mask, which would exclude the fastest kernels, and any B is right: on CUDA more
    than :data:`MAX_BATCH` problems are computed in parts.
    """
    if len(q) > MAX_BATCH:
        parts = zip(*(x.split(MAX_BATCH) for x in (q, k, v)))
        options = {"dropout": dropout, "scale": scale, "causal": causal}
        return torch.cat([attend(*part, **options) for part in parts])
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal, scale=scale)


class Attention(nn.Module):
    """Self-attention over tokens ``B N C``; parameters ``qkv`` and ``proj``.

    ``scale`` defaults to ``(C / num_heads) ** -0.5``.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        qkv_bias: bool = True,
        scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ):
        super().__init__()
        self.num_heads, self.scale, self.attn_drop = num_heads, scale, attn_drop
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens ``B N C`` -> tokens ``B N C``."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # B heads N c
        drop = self.attn_drop if self.training else 0.0
        x = attend(q, k, v, dropout=drop, scale=self.scale)
        return self.proj_drop(self.proj(x.transpose(1, 2).flatten(2)))


class TransformerBlock(nn.Module):
    """Pre-norm block on tokens ``B N C``: x + attention(norm(x)), then x + MLP(norm(x)).

    ``attention`` are further arguments of :class:`Attention`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        mlp_ratio: float = 4.0,
        drop: float = 0.0,
        drop_path: float = 0.0,
        norm_eps: float = 1e-5,
        **attention: object,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads, proj_drop=drop, **attention)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop=drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens ``B N C`` -> tokens ``B N C``."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
