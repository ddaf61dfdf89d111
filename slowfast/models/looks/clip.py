"""The way back through CLIP's visual tower, for each kind of temporal modelling.

A kind of one's own adds a function::

    @trace_block.register(MyBlock)
    def _(block, trace, name, shares, frames): ...  # shares B*T 1+N -> B*T 1+N
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch

from slowfast.models.clip.blocks import ClipBlock
from slowfast.models.clip.stcross import CrossBlock
from slowfast.models.clip.temporal import (
    ChannelShiftBlock,
    ExpandedViewBlock,
    MessageBlock,
    shift_frames,
)
from slowfast.models.looks.trace import Trace, first_token
from slowfast.utils.errors import UserError

if TYPE_CHECKING:
    from slowfast.models.clip.video import TemporalClipVideo


def trace_clip(trace: Trace, model: TemporalClipVideo, shape: tuple[int, ...]) -> torch.Tensor:
    """Shares ``B T h w`` of the patches. The frames of a clip have equal shares of the scores,
    before temporal attention distributes them."""
    b, _, t, height, width = shape
    visual = model.model.visual
    patch = visual.patch
    h, w = height // patch, width // patch
    shares = first_token(b * t, 1 + h * w, 1 / t)
    blocks = visual.transformer.resblocks
    names = [f"model.visual.transformer.resblocks.{number}" for number in range(len(blocks))]
    for name in trace.backwards(names):
        if trace.skip < 1:
            shares = trace_block(blocks[int(name.rsplit(".", 1)[1])], trace, name, shares, t)
    return shares[:, 1:].reshape(b, t, h, w)


@functools.singledispatch
def trace_block(
    block: ClipBlock, trace: Trace, name: str, shares: torch.Tensor, frames: int
) -> torch.Tensor:
    """Shares of the tokens that leave ``block``, ``B*T 1+N``, -> of those that enter it. Frames
    are the fastest index of the rows; ``frames`` is T."""
    return trace.through(shares, f"{name}.attn")


@trace_block.register
def _(
    block: ExpandedViewBlock, trace: Trace, name: str, shares: torch.Tensor, frames: int
) -> torch.Tensor:
    """Keys are those of the next frames, of the previous ones, then the frame's own."""
    distances = range(1, block.num_neighbors + 1)
    offsets = [*distances, *(-distance for distance in distances)]
    *others, attended = trace.attend(shares, f"{name}.attn").chunk(len(offsets) + 1, dim=1)
    for part, offset in zip(others, offsets):
        # A frame had the keys of the frame at +offset: their share goes there.
        attended = attended + shift_frames(part, frames, -offset)
    return trace.skip * shares + (1 - trace.skip) * attended


@trace_block.register
def _(
    block: ChannelShiftBlock, trace: Trace, name: str, shares: torch.Tensor, frames: int
) -> torch.Tensor:
    raise UserError(
        "channel_shift mixes channels and positions, so that its attention shows no places",
        "choose --method gradcam",
        "MODEL.TEMPORAL_MODELING_TYPE",
    )


@trace_block.register
def _(
    block: MessageBlock, trace: Trace, name: str, shares: torch.Tensor, frames: int
) -> torch.Tensor:
    """The last key is the frame's message, which comes from the class tokens of all frames."""
    attended = trace.attend(torch.nn.functional.pad(shares, (0, 1)), f"{name}.attn")
    messages = attended[:, -1].unflatten(0, (-1, frames))
    messages = trace.through(messages, f"{name}.message_attn").flatten()
    shares = trace.skip * shares + (1 - trace.skip) * attended[:, :-1]
    return torch.cat([shares[:, :1] + (1 - trace.skip) * messages[:, None], shares[:, 1:]], dim=1)


@trace_block.register
def _(
    block: CrossBlock, trace: Trace, name: str, shares: torch.Tensor, frames: int
) -> torch.Tensor:
    """Class token and kept patches come from the attention after the exchange of channels, and, by
    the second half of the block, from the plain one: half of their share each."""
    side = int((shares.shape[1] - 1) ** 0.5)
    clips = len(shares) // frames
    device = trace.record.attention[f"{name}.attn"][0].device
    kept = block.kept_patches(clips, frames, side, device).flatten(0, 1).cpu() + 1
    kept = torch.cat([torch.zeros(len(kept), 1, dtype=kept.dtype), kept], dim=1)  # class token
    crossed = shares.gather(1, kept)
    scales = len(block.options.scales)
    # One call of attention computes all scales; their mean is taken.
    weights = trace.record.attention[f"{name}.attn"][0].unflatten(0, (scales, -1)).mean(0)
    attended = (crossed.unsqueeze(1) @ weights.to(crossed)).squeeze(1)
    crossed = trace.skip * crossed + (1 - trace.skip) * attended
    plain = shares.scatter_add(1, kept, -0.5 * shares.gather(1, kept))
    plain = trace.through(plain, f"{name}.attn", call=1)
    return plain.scatter_add(1, kept, 0.5 * crossed)
