"""STFM: spatial and temporal focus on a few tokens (the STFM project's module).

From an intermediate feature map and the clip it builds pixel-like frames, cuts them into
(overlapping) patches, picks NUM_TOKENS patches of the first frame and, for each of them, its
most similar patch in every later frame. The rest of the network sees those tokens only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.attention import TransformerBlock
from slowfast.layers.conv import DepthwiseConv3d
from slowfast.layers.norm import BatchNorm2d, BatchNorm3d

STFM_SECTION = register_section(
    Section(
        "STFM",
        "Spatial and temporal focus module",
        {
            "ENABLE": Key(False, "Put the module into the network."),
            "INSERT_AFTER": Key(
                -1,
                "Number of the block, from 0, after which the module stands (TimeSformer, MViT); "
                "-1: after three quarters of the blocks, in MViT before the last stage.",
                ge=-1,
            ),
            "NUM_TOKENS": Key(64, "Tokens a frame (64 for B, 16 for S in the paper).", ge=1),
            "DENSE": Key(True, "Overlapping patches, four pixels apart, instead of 16."),
            "POS_KERNEL": Key(3, "Kernel of the position convolution (odd).", ge=1),
            "SIMILAR_LOSS": Key(False, "Add the similarity of the tokens over time to the loss."),
            "SELECTION": Key(
                "hard",
                "hard: the released arg-max, which trains neither selector; "
                "straight_through: arg-max forward, soft-max backward.",
                choices=("hard", "straight_through"),
            ),
            "TEMPERATURE": Key(1.0, "Of the soft-max of straight_through.", gt=0.0),
        },
    )
)

PATCH = 16
_DENSE_STRIDE = 4
_CLIP_SHARE = 0.1  # share of the clip added to the rebuilt frames


@dataclass(frozen=True)
class StfmShape:
    """Sizes around the module.

    ``channels`` of the map it is given, ``dim`` of its tokens, ``crop`` side of the clip,
    ``stride_t`` and ``stride_s``: frames and pixels of the clip for one position of the map.
    """

    channels: int
    dim: int
    crop: int
    stride_t: int = 2
    stride_s: int = 16


def patches_per_side(crop: int, dense: bool) -> int:
    """Patches along one side of a ``crop`` pixels wide frame."""
    return (crop - PATCH) // _DENSE_STRIDE + 1 if dense else crop // PATCH


class Adapt(nn.Module):
    """Feature map ``B C T' H' W'`` -> frames ``B 3 T H W`` (0..6)."""

    def __init__(self, shape: StfmShape):
        super().__init__()
        kernel = (shape.stride_t, shape.stride_s, shape.stride_s)
        self.norm = BatchNorm3d(shape.channels)
        self.transconv = nn.ConvTranspose3d(shape.channels, 3, kernel, stride=kernel)
        self.act = nn.ReLU6()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Kernel and stride are equal: each position makes a block of its own, which is one
        # matrix product and a reordering (several times faster than the convolution).
        weight, bias = self.transconv.weight, self.transconv.bias
        blocks = self.norm(x).movedim(1, -1) @ weight.flatten(1)
        blocks = blocks.unflatten(-1, weight.shape[1:])  # B T' H' W' 3 kt kh kw
        frames = blocks.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return self.act(frames + bias.view(1, -1, 1, 1, 1))


class FocusPatchEmbed(nn.Module):
    """Frames ``B 3 T H W`` -> patches ``B D T' P1 P1`` and their positions, alike."""

    def __init__(self, shape: StfmShape, dense: bool, pos_kernel: int):
        super().__init__()
        step = _DENSE_STRIDE if dense else PATCH
        self.norm = BatchNorm3d(3)
        self.proj = nn.Conv3d(
            3, shape.dim, (3, PATCH, PATCH), (shape.stride_t, step, step), (1, 0, 0)
        )
        self.pos_embed = DepthwiseConv3d(shape.dim, pos_kernel)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.proj(self.norm(x))
        return x, self.pos_embed(x)


def select_tokens(
    scores: torch.Tensor, values: torch.Tensor, temperature: float | None
) -> torch.Tensor:
    """For each row of ``scores`` (``... N P``) the best row of ``values`` (``... P C``).

    With a ``temperature`` the backward pass is that of a soft-max over the scores, so that
    what made the scores is trained; without one it gets no gradient (as released).
    """
    best = scores.argmax(-1)
    if temperature is None or not torch.is_grad_enabled():
        index = best.unsqueeze(-1).expand(*best.shape, values.shape[-1])
        return values.gather(-2, index)
    soft = (scores / temperature).softmax(-1)
    hard = F.one_hot(best, scores.shape[-1]).to(soft.dtype)
    weights = hard + soft - soft.detach()
    return weights @ values.to(weights.dtype)


class TokenSelector(nn.Module):
    """Spatial focus: picks N patches of the first frame."""

    def __init__(self, dim: int, num_tokens: int, temperature: float | None):
        super().__init__()
        self.temperature = temperature
        self.norm = BatchNorm2d(dim)
        self.select = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim),
            nn.Hardswish(),
            nn.Conv2d(dim, num_tokens, 1),
        )

    def forward(
        self, first: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Frame and positions ``B D P1 P1`` -> tokens and positions ``B N D``."""
        first = self.norm(first)
        scores = self.select(first).flatten(2)
        both = torch.cat([first, positions], dim=1).flatten(2).transpose(1, 2)
        tokens, places = select_tokens(scores, both, self.temperature).chunk(2, dim=-1)
        return tokens, places


class TokenChain(nn.Module):
    """Temporal focus: follows each token through the later frames."""

    def __init__(self, dim: int, num_tokens: int, patches: int, temperature: float | None):
        super().__init__()
        # The similarities grow with the width; the selection does not depend on it.
        self.temperature = temperature and temperature * dim**0.5
        self.norm = BatchNorm3d(dim)
        # An MLP along the token axis: each output patch mixes all patches and all tokens.
        self.proj = Mlp(patches + num_tokens, out_features=patches)

    def forward(
        self, tokens: torch.Tensor, places: torch.Tensor, x: torch.Tensor, pos: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens ``B N D`` and patches ``B D T P1 P1`` -> ``B T N D`` tokens and positions."""
        later = self.norm(x)[:, :, 1:].flatten(3).permute(0, 2, 3, 1)  # B T-1 P D
        later_pos = pos[:, :, 1:].flatten(3).permute(0, 2, 3, 1)
        queries = tokens.unsqueeze(1).expand(-1, later.shape[1], -1, -1)
        mixed = torch.cat([queries, later], dim=2)
        keys = self.proj(mixed.transpose(2, 3))  # B T-1 D P
        scores = queries @ keys
        found = select_tokens(scores, torch.cat([later, later_pos], -1), self.temperature)
        followed, followed_pos = found.chunk(2, dim=-1)
        tokens = torch.cat([tokens.unsqueeze(1), followed], dim=1)
        return tokens, torch.cat([places.unsqueeze(1), followed_pos], dim=1)


class Stfm(nn.Module):
    """The whole module: map and clip -> tokens and positions ``B T' N D``."""

    def __init__(self, cfg: CfgNode, shape: StfmShape):
        super().__init__()
        options = cfg.STFM
        patches = patches_per_side(shape.crop, options.DENSE) ** 2
        soft = options.SELECTION == "straight_through"
        temperature = options.TEMPERATURE if soft else None
        self.adapt = Adapt(shape)
        self.patch_embed = FocusPatchEmbed(shape, options.DENSE, options.POS_KERNEL)
        self.tokenselector = TokenSelector(shape.dim, options.NUM_TOKENS, temperature)
        self.chain = TokenChain(shape.dim, options.NUM_TOKENS, patches, temperature)

    def forward(self, x: torch.Tensor, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``x``: ``B C T' H' W'``, ``video``: ``B 3 T H W``."""
        frames = self.adapt(x) + _CLIP_SHARE * video
        patches, positions = self.patch_embed(frames)
        tokens, places = self.tokenselector(patches[:, :, 0], positions[:, :, 0])
        return self.chain(tokens, places, patches, positions)


class FocusBlock(TransformerBlock):
    """A transformer block that adds the positions at its entry."""

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return super().forward(x + positions)


def similarity_loss(tokens: torch.Tensor) -> torch.Tensor:
    """Mean distance ``|token_t - token_0|`` over frames, tokens and channels of ``B T N D``."""
    return (tokens - tokens[:, :1]).abs().mean()
