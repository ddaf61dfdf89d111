"""STFM: spatial and temporal focus on a few tokens (the STFM project's module).

The module builds frames from a feature map and the clip and cuts them into (overlapping)
patches. Of the first frame it selects ``num_tokens`` patches; for each of them it selects the most
similar patch of every later frame. The rest of the network works on these tokens only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from timm.layers import Mlp
from torch import nn

from slowfast.layers.attention import TransformerBlock
from slowfast.layers.conv import DepthwiseConv3d, PatchConv3d
from slowfast.layers.mlp import padded_mlp, padding_of, pads_products
from slowfast.layers.precision import to_autocast

PATCH = 16
_DENSE_STRIDE = 4
_CLIP_WEIGHT = 0.1  # of the clip, added to the rebuilt frames


@dataclass(frozen=True)
class StfmOptions:
    """What a user chooses of the module.

    num_tokens: tokens per frame.
    dense: patches 4 pixels apart (overlapping) instead of 16.
    pos_kernel: kernel size of the position convolution, odd.
    selection: ``hard`` (arg-max, which trains neither selector) or ``straight_through`` (arg-max
        forward, soft-max backward).
    temperature: temperature of that soft-max.
    insert_after: index of the block that the module follows; -1: the network's default.
    similar_loss: add :func:`token_distance_loss` to the losses.
    """

    num_tokens: int = 64
    dense: bool = True
    pos_kernel: int = 3
    selection: str = "hard"
    temperature: float = 1.0
    insert_after: int = -1
    similar_loss: bool = False


@dataclass(frozen=True)
class StfmShape:
    """Sizes around the module.

    channels: channels of the feature map that enters.
    dim: channels of the tokens.
    crop_size: side of the clip in pixels.
    stride_t, stride_s: frames and pixels of the clip per position of the feature map.
    """

    channels: int
    dim: int
    crop_size: int
    stride_t: int = 2
    stride_s: int = 16


def patches_per_side(crop_size: int, dense: bool) -> int:
    """Patches along one side of a frame of ``crop_size`` pixels."""
    return (crop_size - PATCH) // _DENSE_STRIDE + 1 if dense else crop_size // PATCH


class Adapt(nn.Module):
    """Transposed convolution: feature map ``B C T' H' W'`` -> frames ``B 3 T H W`` (0..6)."""

    def __init__(self, shape: StfmShape):
        super().__init__()
        kernel = (shape.stride_t, shape.stride_s, shape.stride_s)
        self.norm = nn.BatchNorm3d(shape.channels)
        self.transconv = nn.ConvTranspose3d(shape.channels, 3, kernel, stride=kernel)
        self.act = nn.ReLU6()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T' H' W'`` -> ``B 3 T H W``."""
        # Kernel and stride are equal, so that every position makes a block of its own. One
        # matrix product and a reordering are several times faster than the convolution.
        weight, bias = self.transconv.weight, self.transconv.bias
        _, rgb, kt, kh, kw = weight.shape
        blocks = self.norm(x).movedim(1, -1) @ weight.flatten(1)
        frames = rearrange(
            blocks, "b t h w (c kt kh kw) -> b c (t kt) (h kh) (w kw)", c=rgb, kt=kt, kh=kh, kw=kw
        )
        return self.act(frames + bias.view(1, -1, 1, 1, 1))


class StfmPatchEmbed(nn.Module):
    """Frames ``B 3 T H W`` -> patches ``B D T' P P`` and their positions of the same shape."""

    def __init__(self, shape: StfmShape, dense: bool, pos_kernel: int):
        super().__init__()
        stride = _DENSE_STRIDE if dense else PATCH
        self.norm = nn.BatchNorm3d(3)
        self.proj = PatchConv3d(
            3, shape.dim, (3, PATCH, PATCH), (shape.stride_t, stride, stride), (1, 0, 0)
        )
        self.pos_embed = DepthwiseConv3d(shape.dim, pos_kernel)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``B 3 T H W`` -> (patches, positions), both ``B D T' P P``."""
        x = self.proj(self.norm(x))
        return x, self.pos_embed(x)


def select_tokens(
    scores: torch.Tensor, values: torch.Tensor, temperature: float | None
) -> torch.Tensor:
    """For each row of ``scores`` (``... N P``) the best row of ``values`` (``... P C``).

    With a ``temperature`` the backward pass is that of a soft-max over the scores
    (straight-through), which trains what computed the scores. Without one, the scores get no
    gradient (as released).
    """
    best = scores.argmax(-1)
    if temperature is None or not torch.is_grad_enabled():
        return _rows(values, best)
    soft = (scores / temperature).softmax(-1)
    return _StraightThrough.apply(soft, to_autocast(values), best)


def _rows(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows ``index`` ``... N`` of ``values`` ``... P C``: ``... N C``."""
    return values.gather(-2, index.unsqueeze(-1).expand(*index.shape, values.shape[-1]))


class _StraightThrough(torch.autograd.Function):
    """The product of the weights ``one_hot(best) + soft - soft.detach()`` with ``values``, whose
    weights are zero but for one in each row: a choice of rows forward, and backward the gradient
    of the soft-max weights.

    The gradient of the values stays one matrix product: it is written once, in a fixed order,
    where adding rows would first write zeros and then add in any order.
    """

    @staticmethod
    def forward(
        ctx: Any, soft: torch.Tensor, values: torch.Tensor, best: torch.Tensor
    ) -> torch.Tensor:
        at_best = soft.gather(-1, best.unsqueeze(-1))
        weight = ((1 + at_best) - at_best).to(values.dtype)  # 1, up to the rounding of that sum
        ctx.save_for_backward(values, best, weight)
        ctx.soft_dtype = soft.dtype
        return _rows(values, best) * weight

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        values, best, weight = ctx.saved_tensors
        grad_soft = grad_values = None
        if ctx.needs_input_grad[0]:
            grad_soft = (grad @ values.mT).to(ctx.soft_dtype)
        if ctx.needs_input_grad[1]:
            # Rows of an aligned length: half precision multiplies those several times faster.
            count = values.shape[-2]
            weights = grad.new_zeros(*best.shape, count + padding_of(count))
            weights.scatter_(-1, best.unsqueeze(-1), weight)
            grad_values = weights[..., :count].mT @ grad
        return grad_soft, grad_values, None


class TokenSelector(nn.Module):
    """Spatial focus: selects N patches of the first frame."""

    def __init__(self, dim: int, num_tokens: int, temperature: float | None):
        super().__init__()
        self.temperature = temperature
        self.norm = nn.BatchNorm2d(dim)
        self.select = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim),
            nn.Hardswish(),
            nn.Conv2d(dim, num_tokens, 1),
        )

    def forward(
        self, first: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches and positions of the first frame ``B D P P`` -> tokens, positions ``B N D``."""
        first = self.norm(first)
        scores = self.select(first).flatten(2)
        values = rearrange(torch.cat([first, positions], dim=1), "b c h w -> b (h w) c")
        tokens, token_positions = select_tokens(scores, values, self.temperature).chunk(2, dim=-1)
        return tokens, token_positions


class TokenChain(nn.Module):
    """Temporal focus: follows each token through the later frames."""

    def __init__(self, dim: int, num_tokens: int, num_patches: int, temperature: float | None):
        super().__init__()
        # The similarities grow with the width; the selection should not depend on it.
        self.temperature = temperature and temperature * dim**0.5
        self.norm = nn.BatchNorm3d(dim)
        # An MLP along the token axis: each output patch mixes all patches and all tokens.
        self.proj = Mlp(num_patches + num_tokens, out_features=num_patches)

    def forward(
        self,
        tokens: torch.Tensor,
        token_positions: torch.Tensor,
        patches: torch.Tensor,
        positions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens ``B N D`` and patches ``B D T P P``, each with positions -> both ``B T N D``."""
        later = rearrange(self.norm(patches)[:, :, 1:], "b d t h w -> b t (h w) d")
        later_positions = rearrange(positions[:, :, 1:], "b d t h w -> b t (h w) d")
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.temperature is not None):
            scores = self._scores(tokens, later)
        values = torch.cat([later, later_positions], dim=-1)
        selected = select_tokens(scores, values, self.temperature)
        followed, followed_positions = selected.chunk(2, dim=-1)
        tokens = torch.cat([tokens.unsqueeze(1), followed], dim=1)
        return tokens, torch.cat([token_positions.unsqueeze(1), followed_positions], dim=1)

    def _scores(self, tokens: torch.Tensor, later: torch.Tensor) -> torch.Tensor:
        """Similarities of tokens ``B N D`` with the mixed patches of later frames ``B T P D``:
        ``B T N P``."""
        queries = tokens.unsqueeze(1).expand(-1, later.shape[1], -1, -1)
        parts = [queries, later]
        if not pads_products(later):
            return queries @ self.proj(torch.cat(parts, dim=2).mT)
        count = queries.shape[2] + later.shape[2]
        parts.append(
            later.new_zeros(1).expand(*later.shape[:2], padding_of(count), later.shape[-1])
        )
        keys = padded_mlp(self.proj, torch.cat(parts, dim=2).mT)  # B T D P and more
        return (queries @ keys)[..., : later.shape[2]]


class Stfm(nn.Module):
    """The whole module: feature map and clip -> tokens and positions ``B T' N D``."""

    def __init__(self, options: StfmOptions, shape: StfmShape):
        super().__init__()
        num_patches = patches_per_side(shape.crop_size, options.dense) ** 2
        soft = options.selection == "straight_through"
        temperature = options.temperature if soft else None
        self.adapt = Adapt(shape)
        self.patch_embed = StfmPatchEmbed(shape, options.dense, options.pos_kernel)
        self.tokenselector = TokenSelector(shape.dim, options.num_tokens, temperature)
        self.chain = TokenChain(shape.dim, options.num_tokens, num_patches, temperature)
        if not soft:  # an arg-max gives them no gradient
            for part in (self.tokenselector.select, self.chain.proj):
                part.requires_grad_(False)

    def forward(self, x: torch.Tensor, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``B C T' H' W'`` and ``B 3 T H W`` -> (tokens, positions), both ``B T' N D``."""
        frames = self.adapt(x) + _CLIP_WEIGHT * video
        patches, positions = self.patch_embed(frames)
        tokens, token_positions = self.tokenselector(patches[:, :, 0], positions[:, :, 0])
        return self.chain(tokens, token_positions, patches, positions)


class StfmBlock(TransformerBlock):
    """A transformer block that first adds the positions to the tokens."""

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Tokens and positions ``B N C`` -> tokens ``B N C``."""
        return super().forward(x + positions)


def token_distance_loss(tokens: torch.Tensor) -> torch.Tensor:
    """Mean of ``|token_t - token_0|`` over frames, tokens and channels of ``B T N D``."""
    return (tokens - tokens[:, :1]).abs().mean()
