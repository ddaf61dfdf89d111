"""Multi-head self-attention and the plain transformer block."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp
from torch import nn

from slowfast.layers.precision import autocast_dtype, to_autocast

_SHORT = 2**18  # scores of a problem up to which its weights are better computed again
_AT_ONCE = 2**22  # scores of all problems that are computed at once
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
    if not torch.compiler.is_exporting() and len(q) > MAX_BATCH:
        parts = zip(*(x.split(MAX_BATCH) for x in (q, k, v)))
        options = {"dropout": dropout, "scale": scale, "causal": causal}
        return torch.cat([attend(*part, **options) for part in parts])
    short = q.device.type == "cpu" and q.shape[-2] * k.shape[-2] <= _SHORT
    if short and not (dropout or causal) and _learns_in_half(q, k, v):
        q, k, v = (to_autocast(x) for x in (q, k, v))
        return _HalfAttention.apply(q, k, v, q.shape[-1] ** -0.5 if scale is None else scale)
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal, scale=scale)


def _learns_in_half(*inputs: torch.Tensor) -> bool:
    learns = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    return learns and all(autocast_dtype(x) is torch.bfloat16 for x in inputs)


class _HalfAttention(torch.autograd.Function):
    """Fused attention in bfloat16 on the CPU with a backward pass of plain matrix products.

    For short sequences they take half of the time of PyTorch's fused backward pass, or less. The
    weights are computed again, so that they are never stored.
    """

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float
    ) -> torch.Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.scale = scale
        return F.scaled_dot_product_attention(q, k, v, scale=scale)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        inputs = [x.flatten(0, 1) for x in (q * ctx.scale, k, v, grad)]
        size = max(1, _AT_ONCE // (q.shape[-2] * k.shape[-2]))
        parts = zip(*(x.split(size) for x in inputs))
        grads = zip(*(_attention_gradients(*part) for part in parts))
        grad_q, grad_k, grad_v = (torch.cat(x).unflatten(0, q.shape[:2]) for x in grads)
        return grad_q * ctx.scale, grad_k, grad_v, None


def _attention_gradients(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, grad: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of scaled queries, keys and values ``heads N c``."""
    weights = (q @ k.mT).softmax(-1)
    grad_scores = torch.ops.aten._softmax_backward_data(grad @ v.mT, weights, -1, weights.dtype)
    return grad_scores @ k, grad_scores.mT @ q, weights.mT @ grad


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
