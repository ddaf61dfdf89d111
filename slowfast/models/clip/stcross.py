"""STDD's space-time cross attention (arXiv 2412.09895): no parameters beyond CLIP's.

Half of the patches of every frame, in a pattern that moves from frame to frame, exchange channels
with the frames around and go through the block's own attention once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from slowfast.models.clip.blocks import ClipBlock


@dataclass(frozen=True)
class CrossOptions:
    """``mask_rate`` of each cell of ``cell`` (rows, columns) patches is left out; ``width //
    channel_fold`` channels each way are exchanged over the frames up to each of ``scales`` away.

    ``spatial_repeat``: training moves the pattern of all cells alike. ``shuffle`` and
    ``shuffle_in_eval``: the frames' patterns change places at random in training and evaluation.
    """

    mask_rate: float = 0.5
    cell: Sequence[int] = (2, 2)
    channel_fold: int = 64
    scales: Sequence[int] = (1, 2)
    spatial_repeat: bool = True
    shuffle: bool = False
    shuffle_in_eval: bool = False


def mix_channels(x: torch.Tensor, fold: int, scale: int) -> torch.Tensor:
    """Patches ``B T M C``: the first channels come from frames before, the next ones from frames
    after; from further away, half as many each. What nobody fills is zero."""
    frames, c = x.shape[1], x.shape[-1] // fold
    mixed = torch.cat([torch.zeros_like(x[..., : 2 * c]), x[..., 2 * c :]], dim=-1)
    d = c
    for away in range(1, min(scale, frames - 1) + 1):
        mixed[:, away:, :, :d] = x[:, :-away, :, :d]
        mixed[:, :-away, :, 2 * c - d : 2 * c] = x[:, away:, :, 2 * c - d : 2 * c]
        d //= 2
    return mixed


class CrossBlock(ClipBlock):
    """``stcross_attend``."""

    def __init__(self, dim: int, options: CrossOptions):
        super().__init__(dim)
        self.options = options

    def kept(self, clips: int, frames: int, side: int, device: torch.device) -> torch.Tensor:
        """Numbers of the patches that each frame keeps, cell after cell: ``clips T M``.

        Frame ``t`` leaves out places ``t``, ``t + 1`` … of each cell, counted around it. The n-th
        kept patches of two frames, which exchange channels, are of one cell, not of one place.
        """
        options, (high, wide) = self.options, self.options.cell
        places, cells = high * wide, (side // high) * (side // wide)
        dropped = int(options.mask_rate * frames * side * side) // (frames * cells)
        start = torch.arange(frames, device=device).expand(clips, -1)
        if options.shuffle if self.training else options.shuffle_in_eval:
            start = torch.rand(clips, frames, device=device).argsort(1)
        start = start[:, :, None].expand(-1, -1, cells)
        if self.training:
            count = 1 if options.spatial_repeat else cells
            offset = torch.randint(places, (clips, 1, count), device=device)
            # As released, the frames of a shuffled pattern keep the offset of their cell.
            start = start + offset
        after = torch.arange(dropped, places, device=device)
        inside = ((start[..., None] + after) % places).sort(-1).values  # clips T cells kept
        rows = torch.arange(side // high, device=device)[:, None] * high
        columns = torch.arange(side // wide, device=device)[None] * wide
        corner = (rows * side + columns).flatten()[:, None]
        return (corner + inside // wide * side + inside % wide).flatten(2)

    def forward(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        """As released, the second half reads the plain path and adds to the crossed one."""
        side = int((x.shape[1] - 1) ** 0.5)
        kept = self.kept(len(x) // frames, frames, side, x.device).flatten(0, 1)
        index = kept[..., None].expand(-1, -1, x.shape[-1])  # B*T M C
        crossed = self.cross(x[:, :1], x[:, 1:].gather(1, index), frames)
        plain = self.attend(x, frames)
        patches = plain[:, 1:].scatter(1, index, crossed[:, 1:].to(plain.dtype))
        base = torch.cat([crossed[:, :1].to(plain.dtype), patches], dim=1)
        return base + self.mlp(self.ln_2(plain))

    def cross(self, token: torch.Tensor, patches: torch.Tensor, frames: int) -> torch.Tensor:
        """Class tokens ``B*T 1 C`` and kept patches ``B*T M C``, attended after the exchange at
        each scale, all scales in one call; their mean ``B*T 1+M C``."""
        clips, options = patches.unflatten(0, (-1, frames)), self.options
        mixed = [mix_channels(clips, options.channel_fold, s).flatten(0, 1) for s in options.scales]
        tokens = torch.cat([torch.cat([token, one], dim=1) for one in mixed])
        tokens = self.attend(tokens, frames)
        return tokens.unflatten(0, (len(mixed), -1)).mean(0)
