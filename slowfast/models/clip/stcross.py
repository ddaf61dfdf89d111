"""STDD's space-time cross attention (arXiv 2412.09895): no parameters beyond CLIP's.

Half of the patches of every frame, in a pattern that moves from frame to frame, exchange channels
with the neighbouring frames and pass through the block's own attention once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from slowfast.config.node import CfgNode
from slowfast.models.clip.blocks import CLIP_BLOCK_REGISTRY, ClipBlock, TokenCount


@dataclass(frozen=True)
class CrossOptions:
    """Options of :class:`CrossBlock`.

    Args:
        mask_rate: share of the patches of each cell that is left out.
        cell: rows and columns of a cell, in patches.
        channel_fold: ``width // channel_fold`` channels are exchanged in each direction.
        scales: the result is the mean over exchanges that reach so many frames each.
        spatial_repeat: in training, all cells of a clip move the pattern by the same offset.
        shuffle: in training, the frames of a clip permute their patterns at random.
        shuffle_in_eval: in evaluation, too.
    """

    mask_rate: float = 0.5
    cell: Sequence[int] = (2, 2)
    channel_fold: int = 64
    scales: Sequence[int] = (1, 2)
    spatial_repeat: bool = True
    shuffle: bool = False
    shuffle_in_eval: bool = False


def mix_channels(x: torch.Tensor, fold: int, scale: int) -> torch.Tensor:
    """Exchange channels between the frames of each clip: ``B T M C`` -> ``B T M C``.

    The first ``C // fold`` channels come from previous frames, the next ones from following
    frames, half as many from each frame further away, up to ``scale`` frames. Channels without a
    source frame (clip borders) are zero.
    """
    frames, width = x.shape[1], x.shape[-1] // fold
    mixed = torch.cat([torch.zeros_like(x[..., : 2 * width]), x[..., 2 * width :]], dim=-1)
    count = width
    for distance in range(1, min(scale, frames - 1) + 1):
        following = slice(2 * width - count, 2 * width)
        mixed[:, distance:, :, :count] = x[:, :-distance, :, :count]
        mixed[:, :-distance, :, following] = x[:, distance:, :, following]
        count //= 2
    return mixed


@CLIP_BLOCK_REGISTRY.register("stcross_attend")
class CrossBlock(ClipBlock):
    """A block that attends twice: over all tokens, and over the kept patches after an exchange
    of channels between frames."""

    def __init__(self, dim: int, options: CrossOptions | None = None):
        super().__init__(dim)
        self.options = options or CrossOptions()

    @classmethod
    def options_from_cfg(cls, cfg: CfgNode) -> CrossOptions:
        model = cfg.MODEL
        return CrossOptions(
            mask_rate=model.MASK_RATE,
            cell=tuple(model.MASK_STRIDE[1:]),
            channel_fold=model.CHANNEL_FOLD,
            scales=tuple(model.TEMPORAL_SCALE),
            spatial_repeat=model.SPATIAL_REPEAT,
            shuffle=model.TEMPORAL_SHUFFLE,
            shuffle_in_eval=model.TEMPORAL_SHUFFLE and cfg.CLIP.SHUFFLE_IN_EVAL,
        )

    @classmethod
    def tokens(cls, patches: int, options: CrossOptions | None = None) -> TokenCount:
        options = options or CrossOptions()
        kept = patches - int(options.mask_rate * patches)
        count = patches + 1 + len(options.scales) * (kept + 1)
        return TokenCount(count, count)

    def kept_patches(
        self, clips: int, frames: int, side: int, device: torch.device
    ) -> torch.Tensor:
        """Numbers of the patches that each frame keeps, cell after cell: ``clips T M``.

        Positions in a cell are numbered row by row. Frame ``t`` leaves out the positions ``t``,
        ``t + 1`` … of each cell, counted around it. With 4 x 4 patches in cells of 2 x 2 and
        ``mask_rate`` 0.5 (``#`` is kept, ``.`` is left out)::

            frame 0   frame 1   frame 2   frame 3
            . . . .   # . # .   # # # #   . # . #
            # # # #   . # . #   . . . .   # . # .
            . . . .   # . # .   # # # #   . # . #
            # # # #   . # . #   . . . .   # . # .

        The n-th kept patches of two frames, which exchange channels, lie in the same cell, not at
        the same position.
        """
        rows, columns = self.options.cell
        positions, cells = rows * columns, (side // rows) * (side // columns)
        num_masked = int(self.options.mask_rate * frames * side * side) // (frames * cells)
        first_masked = self._first_masked(clips, frames, cells, device)
        kept_offsets = torch.arange(num_masked, positions, device=device)
        kept_in_cell = (first_masked[..., None] + kept_offsets) % positions  # clips T cells kept
        return _patch_numbers(kept_in_cell.sort(-1).values, side, rows, columns)

    def _first_masked(
        self, clips: int, frames: int, cells: int, device: torch.device
    ) -> torch.Tensor:
        """The first position that each frame leaves out of each cell: ``clips T cells``."""
        options = self.options
        first = torch.arange(frames, device=device).expand(clips, -1)
        if options.shuffle if self.training else options.shuffle_in_eval:
            first = torch.rand(clips, frames, device=device).argsort(1)
        first = first[:, :, None].expand(-1, -1, cells)
        if self.training:
            # As released, the frames of a shuffled pattern keep the offset of their cell.
            positions = options.cell[0] * options.cell[1]
            offsets = 1 if options.spatial_repeat else cells
            first = first + torch.randint(positions, (clips, 1, offsets), device=device)
        return first

    def forward(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        """``B*T 1+N C`` -> ``B*T 1+N C``.

        As released, the second half of the block reads the plain path and adds its result to the
        crossed one.
        """
        side = int((x.shape[1] - 1) ** 0.5)
        kept = self.kept_patches(x.shape[0] // frames, frames, side, x.device).flatten(0, 1)
        index = kept[..., None].expand(-1, -1, x.shape[-1])  # B*T M C
        crossed = self.cross(x[:, :1], x[:, 1:].gather(1, index), frames)
        plain = self.attend(x, frames)
        patches = plain[:, 1:].scatter(1, index, crossed[:, 1:].to(plain.dtype))
        base = torch.cat([crossed[:, :1].to(plain.dtype), patches], dim=1)
        return base + self.mlp(self.ln_2(plain))

    def cross(self, token: torch.Tensor, patches: torch.Tensor, frames: int) -> torch.Tensor:
        """Attention after the exchange of channels, mean over all scales (computed in one call).

        Class tokens ``B*T 1 C`` and kept patches ``B*T M C`` -> ``B*T 1+M C``.
        """
        clips, options = patches.unflatten(0, (-1, frames)), self.options
        mixed = [mix_channels(clips, options.channel_fold, scale) for scale in options.scales]
        tokens = torch.cat([torch.cat([token, one.flatten(0, 1)], dim=1) for one in mixed])
        tokens = self.attend(tokens, frames)
        return tokens.unflatten(0, (len(mixed), -1)).mean(0)


def _patch_numbers(in_cell: torch.Tensor, side: int, rows: int, columns: int) -> torch.Tensor:
    """Positions inside cells ``clips T cells M`` -> numbers of patches in the frame, ``clips T
    cells*M``; cells are counted row by row."""
    device = in_cell.device
    cell_rows = torch.arange(side // rows, device=device)[:, None] * rows
    cell_columns = torch.arange(side // columns, device=device)[None] * columns
    cell_origin = (cell_rows * side + cell_columns).flatten()[:, None]  # cells 1
    return (cell_origin + in_cell // columns * side + in_cell % columns).flatten(2)
