"""Blocks of CLIP's transformers, under the published names, and their temporal variants.

Tokens are ``B*T N C``: the class token, then the patches of a frame; frames are fastest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

HEAD_DIM = 64


class QuickGelu(nn.Module):
    """``x * sigmoid(1.702 x)``, as CLIP was trained with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


class WideLayerNorm(nn.LayerNorm):
    """Layer normalisation in float32, whatever the input's precision."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.float()).to(x.dtype)


class ClipAttention(nn.MultiheadAttention):
    """Attention under the names of torch's, which lets a caller ``change`` keys and values."""

    def __init__(self, dim: int, heads: int):
        super().__init__(dim, heads, batch_first=True)

    def forward(
        self,
        x: torch.Tensor,
        change: Callable[[torch.Tensor], torch.Tensor] | None = None,
        causal: bool = False,
    ) -> torch.Tensor:
        """``B N C`` -> ``B N C``."""
        q, k, v = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        if change is not None:
            k, v = change(k), change(v)
        q, k, v = (y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class ClipBlock(nn.Module):
    """``x + attn(ln_1 x)``, then ``x + mlp(ln_2 x)``; variants change the first half."""

    def __init__(self, dim: int):
        super().__init__()
        self.attn = ClipAttention(dim, dim // HEAD_DIM)
        self.ln_1 = WideLayerNorm(dim)
        layers = (
            ("c_fc", nn.Linear(dim, 4 * dim)),
            ("gelu", QuickGelu()),
            ("c_proj", nn.Linear(4 * dim, dim)),
        )
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = WideLayerNorm(dim)

    def attend(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        """The first half, residual included."""
        return x + self.attn(self.ln_1(x))

    def forward(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        x = self.attend(x, frames)
        return x + self.mlp(self.ln_2(x))


def shift_frames(x: torch.Tensor, frames: int, step: int) -> torch.Tensor:
    """Frame ``t`` gets what was frame ``t + step``'s: ``B*T …``; zeros beyond the clip's ends."""
    clips = x.unflatten(0, (-1, frames))
    shifted = torch.zeros_like(clips)
    if abs(step) < frames:
        if step > 0:
            shifted[:, :-step] = clips[:, step:]
        else:
            shifted[:, -step:] = clips[:, :step]
    return shifted.flatten(0, 1)


class ExpandedViewBlock(ClipBlock):
    """Keys and values of the ``reach`` next and previous frames stand beside a frame's own
    (Open-VCLIP, arXiv 2302.00624); zeros beyond the ends take part in the soft-max."""

    def __init__(self, dim: int, reach: int = 1):
        super().__init__(dim)
        self.reach = reach

    def attend(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        steps = [*range(1, self.reach + 1), *range(-1, -self.reach - 1, -1)]

        def join(y: torch.Tensor) -> torch.Tensor:
            return torch.cat([shift_frames(y, frames, step) for step in steps] + [y], dim=1)

        return x + self.attn(self.ln_1(x), join)


class ChannelShiftBlock(ClipBlock):
    """A quarter of the channels of keys and values comes from the next frame, one from the
    previous.

    The release shifts channels-first tensors and then reads the memory of each head, ``E N``, as
    ``N E``: channels and places are mixed up. Trained weights expect that. It also takes every
    ``group`` 8 frames of a batch for a clip, whatever their number; 0 takes clips for clips.
    """

    def __init__(self, dim: int, group: int = 0):
        super().__init__(dim)
        self.group = group

    def attend(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        quarter, heads = x.shape[-1] // 4, self.attn.num_heads
        frames = self.group or frames

        def shift(y: torch.Tensor) -> torch.Tensor:
            after = shift_frames(y[..., :quarter], frames, 1)
            before = shift_frames(y[..., quarter : 2 * quarter], frames, -1)
            shifted = torch.cat([after, before, y[..., 2 * quarter :]], dim=-1)
            places = shifted.shape[1]
            memory = shifted.transpose(1, 2).contiguous()  # B C N
            return memory.view(len(y), heads, places, -1).transpose(1, 2).flatten(2)

        return x + self.attn(self.ln_1(x), shift)


class MessageBlock(ClipBlock):
    """A message token of each frame, exchanged between frames (X-CLIP, arXiv 2208.02816)."""

    def __init__(self, dim: int):
        super().__init__(dim)
        self.message_fc = nn.Linear(dim, dim)
        self.message_ln = WideLayerNorm(dim)
        self.message_attn = ClipAttention(dim, dim // HEAD_DIM)

    def attend(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        messages = self.message_fc(x[:, 0]).unflatten(0, (-1, frames))
        messages = messages + self.message_attn(self.message_ln(messages))
        x = torch.cat([x, messages.flatten(0, 1)[:, None]], dim=1)
        return (x + self.attn(self.ln_1(x)))[:, :-1]


class AdapterBlock(ClipBlock):
    """ST-Adapter (arXiv 2206.13559) on the patches before the attention; it begins as nothing.

    The parameters are those of 3-D convolutions; none of them reaches over space, so that linear
    layers and shifted frames compute the same, faster (on the CPU by far).
    """

    def __init__(self, dim: int):
        super().__init__(dim)
        half = dim // 2
        self.stadapt_down_1 = nn.Conv3d(dim, half, 1)
        self.stadapt_conv3d_1 = nn.Conv3d(half, half, (3, 1, 1), padding=(1, 0, 0), groups=half)
        self.stadapt_up_1 = nn.Conv3d(half, dim, 1)
        nn.init.zeros_(self.stadapt_up_1.weight)
        nn.init.zeros_(self.stadapt_up_1.bias)

    def attend(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        y = _pointwise(x[:, 1:], self.stadapt_down_1)
        before, own, after = self.stadapt_conv3d_1.weight.flatten(1).unbind(1)
        y = (
            own * y
            + before * shift_frames(y, frames, -1)
            + after * shift_frames(y, frames, 1)
            + self.stadapt_conv3d_1.bias
        )
        adapted = x[:, 1:] + _pointwise(y, self.stadapt_up_1)
        return super().attend(torch.cat([x[:, :1], adapted], dim=1), frames)


def _pointwise(x: torch.Tensor, layer: nn.Conv3d) -> torch.Tensor:
    """A convolution of size 1 over the last axis."""
    return F.linear(x, layer.weight.flatten(1), layer.bias)


class CausalBlock(ClipBlock):
    """A block of the text tower: no token sees those after it."""

    def attend(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        return x + self.attn(self.ln_1(x), causal=True)
