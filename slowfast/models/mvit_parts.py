"""Parts that MViT and the reversible MViT share: patches, positions, head."""

from __future__ import annotations

import torch
from torch import nn

from slowfast.layers.pooling_attention import Grid
from slowfast.layers.positions import (
    resize_pos_embed_bicubic,
    resize_pos_embed_linear_1d,
    resize_rel_pos,
    sincos_3d,
)
from slowfast.models.base import VideoModel
from slowfast.models.mvit_options import MvitOptions


class PatchEmbed(nn.Module):
    """Overlapping patches: ``B 3 T H W`` -> tokens ``B N C`` and their grid."""

    def __init__(self, options: MvitOptions):
        super().__init__()
        conv, axes = (nn.Conv2d, 2) if options.patch_2d else (nn.Conv3d, 3)
        self.proj = conv(
            3,
            options.embed_dim,
            tuple(options.patch_kernel)[-axes:],
            tuple(options.patch_stride)[-axes:],
            tuple(options.patch_padding)[-axes:],
        )

    def forward(self, video: torch.Tensor) -> tuple[torch.Tensor, Grid]:
        """``B 3 T H W`` (T = 1 for patches of images) -> (``B N C``, ``T H W``)."""
        if isinstance(self.proj, nn.Conv2d):
            x = self.proj(video.squeeze(2)).unsqueeze(2)
        else:
            x = self.proj(video)
        return x.flatten(2).transpose(1, 2), tuple(x.shape[2:])


class MvitHead(nn.Module):
    """Dropout and the last layer, under the published name ``head.projection``."""

    def __init__(self, dim: int, num_classes: int, dropout: float, init_scale: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(dim, num_classes)
        nn.init.trunc_normal_(self.projection.weight, std=0.02)
        nn.init.constant_(self.projection.bias, 0.02)
        with torch.no_grad():
            self.projection.weight.mul_(init_scale)
            self.projection.bias.mul_(init_scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C`` -> logits ``B classes``."""
        return self.projection(self.dropout(x))


class MvitTokens(VideoModel):
    """A network whose tokens are those of MViT: patches, class token, absolute positions."""

    options: MvitOptions
    grid: Grid

    def build_tokens(self, options: MvitOptions, grid: Grid) -> None:
        """Add the layers of :meth:`tokens_of`, for tokens of ``grid``."""
        self.options, self.grid = options, grid
        self.patch_embed = PatchEmbed(options)
        self._add_positions()
        self.pos_drop = nn.Dropout(options.dropout_rate)
        self.norm_stem = nn.LayerNorm(options.embed_dim, eps=1e-6) if options.norm_stem else None

    def _add_positions(self) -> None:
        """Class token and absolute positions, as far as the options have them."""
        options, (t, h, w) = self.options, self.grid
        dim, cls = options.embed_dim, options.cls_embed_on
        learnt = []
        if cls:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        if options.use_abs_pos and options.sep_pos_embed:
            self.pos_embed_spatial = nn.Parameter(torch.zeros(1, h * w, dim))
            self.pos_embed_temporal = nn.Parameter(torch.zeros(1, t, dim))
            learnt = [self.pos_embed_spatial, self.pos_embed_temporal]
            if cls:
                self.pos_embed_class = nn.Parameter(torch.zeros(1, 1, dim))
                learnt.append(self.pos_embed_class)
        elif options.use_abs_pos and options.use_fixed_sincos_pos:
            self.pos_embed = nn.Parameter(sincos_3d(dim, h, t, cls), requires_grad=False)
        elif options.use_abs_pos:
            self.pos_embed = nn.Parameter(torch.zeros(1, t * h * w + cls, dim))
            learnt = [self.pos_embed]
        for parameter in [*learnt, *([self.cls_token] if cls else [])]:
            nn.init.trunc_normal_(parameter, std=0.02)

    def tokens_of(self, video: torch.Tensor) -> tuple[torch.Tensor, Grid]:
        """Tokens ``B N C`` of the clip with class token and absolute positions, and their grid."""
        options = self.options
        x, grid = self.patch_embed(video)
        if options.cls_embed_on:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        if options.use_abs_pos and options.sep_pos_embed:
            pos = self.pos_embed_temporal.unsqueeze(2) + self.pos_embed_spatial.unsqueeze(1)
            pos = pos.flatten(1, 2)  # 1 T*H*W C
            if options.cls_embed_on:
                pos = torch.cat([self.pos_embed_class, pos], dim=1)
            x = x + pos
        elif options.use_abs_pos:
            x = x + self.pos_embed
        x = self.pos_drop(x)
        return (x if self.norm_stem is None else self.norm_stem(x)), grid


def undecayed_positions(model: MvitTokens) -> set[str]:
    """Positions and class token, with ``MVIT.ZERO_DECAY_POS_CLS``."""
    options = model.options
    if not options.zero_decay_pos_cls:
        return set()
    names = {"cls_token"} if options.cls_embed_on else set()
    if options.use_abs_pos:
        separate = {"pos_embed_spatial", "pos_embed_temporal", "pos_embed_class"}
        names |= separate if options.sep_pos_embed else {"pos_embed"}
    if options.rel_pos_spatial:
        names |= {"rel_pos_h", "rel_pos_w"}
    return names | ({"rel_pos_t"} if options.rel_pos_temporal else set())


def resize_mvit_positions(
    name: str, tensor: torch.Tensor, shape: tuple[int, ...]
) -> torch.Tensor | None:
    """Relative positions ``L C`` and separate position embeddings ``1 N C`` of another size."""
    if tensor.ndim != len(shape) or tensor.shape[-1] != shape[-1]:
        return None
    if "rel_pos" in name and tensor.ndim == 2:
        return resize_rel_pos(tensor, shape[0])
    if name.endswith("pos_embed_temporal"):
        return resize_pos_embed_linear_1d(tensor, shape[1])
    if name.endswith("pos_embed_spatial"):
        return resize_pos_embed_bicubic(tensor, shape[1])
    return None
