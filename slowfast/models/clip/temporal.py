"""Blocks whose attention lets the frames of a clip see each other, as published after CLIP."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.models.clip.blocks import (
    CLIP_BLOCK_REGISTRY,
    HEAD_DIM,
    ClipAttention,
    ClipBlock,
    LayerNormFp32,
    TokenCount,
)


def shift_frames(x: torch.Tensor, frames: int, offset: int) -> torch.Tensor:
    """Move values between the frames of each clip: ``B*T …`` -> ``B*T …``.

    Frame ``t`` gets the values of frame ``t + offset``, zeros where the clip has no such frame.
    """
    clips = x.unflatten(0, (-1, frames))
    shifted = torch.zeros_like(clips)
    if abs(offset) < frames:
        if offset > 0:
            shifted[:, :-offset] = clips[:, offset:]
        else:
            shifted[:, -offset:] = clips[:, :offset]
    return shifted.flatten(0, 1)


@CLIP_BLOCK_REGISTRY.register("expand_temporal_view")
class ExpandedViewBlock(ClipBlock):
    """A frame also attends to the keys and values of the ``num_neighbors`` next and previous
    frames (Open-VCLIP, arXiv 2302.00624).

    As published, neighbours beyond the borders of the clip are zeros that take part in the
    soft-max. Next and previous frames are treated alike: averaged over frames, a clip and its
    reverse have the same features.
    """

    num_neighbors: ClassVar[int] = 1

    @classmethod
    def tokens(cls, patches: int, options: Any = None) -> TokenCount:
        return TokenCount(patches + 1, (2 * cls.num_neighbors + 1) * (patches + 1))

    def attend(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        distances = range(1, self.num_neighbors + 1)
        offsets = [*distances, *(-distance for distance in distances)]

        def with_neighbors(y: torch.Tensor) -> torch.Tensor:
            return torch.cat([shift_frames(y, frames, offset) for offset in offsets] + [y], dim=1)

        return x + self.attn(self.ln_1(x), kv_transform=with_neighbors)


@CLIP_BLOCK_REGISTRY.register("expand_temporal_view_step2")
class ExpandedViewBlock2(ExpandedViewBlock):
    """:class:`ExpandedViewBlock` with two neighbours on each side."""

    num_neighbors = 2


@CLIP_BLOCK_REGISTRY.register("expand_temporal_view_step3")
class ExpandedViewBlock3(ExpandedViewBlock):
    """:class:`ExpandedViewBlock` with three neighbours on each side."""

    num_neighbors = 3


@CLIP_BLOCK_REGISTRY.register("channel_shift")
class ChannelShiftBlock(ClipBlock):
    """A quarter of the channels of keys and values comes from the next frame, a quarter from the
    previous one.

    The release shifts channels-first tensors and then reads the memory of each head, ``D N``, as
    ``N D``: channels and positions are mixed up. Trained weights expect that. It also takes every
    8 frames of a batch for a clip, whatever their number: ``options`` is that number, 0 (or None)
    stands for the frames of the clip.
    """

    def __init__(self, dim: int, options: int | None = None):
        super().__init__(dim)
        self.group = options or 0

    @classmethod
    def options_from_cfg(cls, cfg: CfgNode) -> int:
        return cfg.CLIP.SHIFT_GROUP

    def attend(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        quarter, num_heads = x.shape[-1] // 4, self.attn.num_heads
        frames = self.group or frames

        def shift_channels(y: torch.Tensor) -> torch.Tensor:
            from_next = shift_frames(y[..., :quarter], frames, 1)
            from_previous = shift_frames(y[..., quarter : 2 * quarter], frames, -1)
            shifted = torch.cat([from_next, from_previous, y[..., 2 * quarter :]], dim=-1)
            positions = shifted.shape[1]
            memory = shifted.transpose(1, 2).contiguous()  # B C N
            return memory.view(y.shape[0], num_heads, positions, -1).transpose(1, 2).flatten(2)

        return x + self.attn(self.ln_1(x), kv_transform=shift_channels)


@CLIP_BLOCK_REGISTRY.register("cross_frame_attend")
class MessageBlock(ClipBlock):
    """Each frame sends one message token to all frames of its clip (X-CLIP, arXiv 2208.02816)."""

    def __init__(self, dim: int, options: Any = None):
        super().__init__(dim)
        self.message_fc = nn.Linear(dim, dim)
        self.message_ln = LayerNormFp32(dim)
        self.message_attn = ClipAttention(dim, dim // HEAD_DIM)

    @classmethod
    def tokens(cls, patches: int, options: Any = None) -> TokenCount:
        return TokenCount(patches + 2, patches + 2)

    def attend(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        messages = self.message_fc(x[:, 0]).unflatten(0, (-1, frames))  # B T C
        messages = messages + self.message_attn(self.message_ln(messages))
        x = torch.cat([x, messages.flatten(0, 1)[:, None]], dim=1)
        return (x + self.attn(self.ln_1(x)))[:, :-1]


@CLIP_BLOCK_REGISTRY.register("stadapt_zeroinit")
class AdapterBlock(ClipBlock):
    """ST-Adapter (arXiv 2206.13559) on the patches before the attention, with a zero-initialised
    up-projection: initially the identity.

    The parameters are those of 3-D convolutions. Their kernels do not extend over space, so linear
    layers and shifted frames compute the same, several times faster on the CPU.
    """

    def __init__(self, dim: int, options: Any = None):
        super().__init__(dim)
        half = dim // 2
        self.stadapt_down_1 = nn.Conv3d(dim, half, 1)
        self.stadapt_conv3d_1 = nn.Conv3d(half, half, (3, 1, 1), padding=(1, 0, 0), groups=half)
        self.stadapt_up_1 = nn.Conv3d(half, dim, 1)
        nn.init.zeros_(self.stadapt_up_1.weight)
        nn.init.zeros_(self.stadapt_up_1.bias)

    def attend(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        y = _pointwise(x[:, 1:], self.stadapt_down_1)
        previous, current, following = self.stadapt_conv3d_1.weight.flatten(1).unbind(1)
        y = (
            current * y
            + previous * shift_frames(y, frames, -1)
            + following * shift_frames(y, frames, 1)
            + self.stadapt_conv3d_1.bias
        )
        adapted = x[:, 1:] + _pointwise(y, self.stadapt_up_1)
        return super().attend(torch.cat([x[:, :1], adapted], dim=1), frames)


def _pointwise(x: torch.Tensor, layer: nn.Conv3d) -> torch.Tensor:
    """A convolution of kernel size 1 over the last axis."""
    return F.linear(x, layer.weight.flatten(1), layer.bias)
