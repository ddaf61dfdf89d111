"""CLIP's two towers (arXiv 2103.00020): frames and texts into one space, names as OpenAI's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from slowfast.layers.checkpointing import run_checkpointed
from slowfast.layers.positions import resize_clip_pos_embed
from slowfast.models.clip import blocks
from slowfast.models.clip.blocks import CausalBlock, ClipBlock, WideLayerNorm
from slowfast.models.clip.stcross import CrossBlock, CrossOptions
from slowfast.utils.errors import UserError

MakeBlock = Callable[[int], ClipBlock]

_BLOCKS: dict[str, MakeBlock] = {
    "": ClipBlock,
    "None": ClipBlock,
    "expand_temporal_view": blocks.ExpandedViewBlock,
    "expand_temporal_view_step2": functools.partial(blocks.ExpandedViewBlock, reach=2),
    "expand_temporal_view_step3": functools.partial(blocks.ExpandedViewBlock, reach=3),
    "cross_frame_attend": blocks.MessageBlock,
    "stadapt_zeroinit": blocks.AdapterBlock,
}
CROSS, SHIFT = "stcross_attend", "channel_shift"
TEMPORAL_TYPES = (*_BLOCKS, SHIFT, CROSS)


def block_of(temporal: str, cross: CrossOptions, shift_group: int = 0) -> MakeBlock:
    """The block of a type of temporal modelling ('' or 'None': CLIP's own)."""
    if temporal == CROSS:
        return functools.partial(CrossBlock, options=cross)
    if temporal == SHIFT:
        return functools.partial(blocks.ChannelShiftBlock, group=shift_group)
    return _BLOCKS[temporal]


@dataclass(frozen=True)
class ClipSizes:
    """Sizes of a CLIP network; those of the text tower are 0 where there is none."""

    patch: int
    width: int
    layers: int
    embed_dim: int
    resolution: int = 224
    context: int = 77
    vocabulary: int = 49408
    text_width: int = 512
    text_layers: int = 12

    def __str__(self) -> str:
        return (
            f"patches of {self.patch}, {self.layers} layers of {self.width}, text tower of "
            f"{self.text_layers} layers of {self.text_width}, {self.embed_dim} features"
        )


ARCHITECTURES = {
    "vitb32": ClipSizes(32, 768, 12, 512),
    "vitb16": ClipSizes(16, 768, 12, 512),
    "vitl14": ClipSizes(14, 1024, 24, 768, text_width=768),
}


def sizes_of(state: Mapping[str, torch.Tensor]) -> ClipSizes:
    """Sizes read off a state dict in OpenAI's names; UserError if it is none."""
    try:
        conv, proj = state["visual.conv1.weight"], state["visual.proj"]
        positions = len(state["visual.positional_embedding"])
    except KeyError as error:
        raise UserError(
            f"these are no weights of a CLIP with a vision transformer: {error} is missing",
            "name ViT-B-32.pt, ViT-B-16.pt or ViT-L-14.pt of OpenAI, or a checkpoint made of one",
        ) from None
    text = dict.fromkeys(("context", "vocabulary", "text_width", "text_layers"), 0)
    if "token_embedding.weight" in state:
        vocabulary, text_width = state["token_embedding.weight"].shape
        text = {
            "context": len(state["positional_embedding"]),
            "vocabulary": vocabulary,
            "text_width": text_width,
            "text_layers": _layers(state, "transformer."),
        }
    patch = conv.shape[-1]
    return ClipSizes(
        patch,
        conv.shape[0],
        _layers(state, "visual.transformer."),
        proj.shape[1],
        round((positions - 1) ** 0.5) * patch,
        **text,
    )


def _layers(state: Mapping[str, torch.Tensor], prefix: str) -> int:
    start = f"{prefix}resblocks."
    return len({name[len(start) :].split(".")[0] for name in state if name.startswith(start)})


class Transformer(nn.Module):
    """``resblocks``, with first weights as CLIP's."""

    def __init__(self, width: int, layers: int, make: MakeBlock):
        super().__init__()
        self.resblocks = nn.ModuleList(make(width) for _ in range(layers))
        std = width**-0.5
        for block in self.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=std)
            nn.init.normal_(block.attn.out_proj.weight, std=std * (2 * layers) ** -0.5)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=std * (2 * layers) ** -0.5)


class VisualTower(nn.Module):
    """Frames -> ``embed_dim`` features each: class token, ``ln_post``, ``proj``."""

    def __init__(self, sizes: ClipSizes, make: MakeBlock, num_checkpointed: float = 0):
        super().__init__()
        width, patch = sizes.width, sizes.patch
        scale = width**-0.5
        self.num_checkpointed = num_checkpointed
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        positions = (sizes.resolution // patch) ** 2 + 1
        self.positional_embedding = nn.Parameter(scale * torch.randn(positions, width))
        self.ln_pre = WideLayerNorm(width)
        self.transformer = Transformer(width, sizes.layers, make)
        self.ln_post = WideLayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, sizes.embed_dim))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> ``B T D``, not normalised."""
        frames = video.shape[2]
        x = self.conv1(video.transpose(1, 2).flatten(0, 1)).flatten(2).transpose(1, 2)
        token = self.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = torch.cat([token, x], dim=1)
        x = self.ln_pre(
            x + resize_clip_pos_embed(self.positional_embedding, x.shape[1]).to(x.dtype)
        )
        x = run_checkpointed(self.transformer.resblocks, x, self.num_checkpointed, frames)
        return (self.ln_post(x[:, 0]) @ self.proj).unflatten(0, (-1, frames))


class Clip(nn.Module):
    """Both towers and ``logit_scale``."""

    def __init__(self, sizes: ClipSizes, make: MakeBlock, num_checkpointed: float = 0):
        super().__init__()
        self.sizes = sizes
        self.visual = VisualTower(sizes, make, num_checkpointed)
        width = sizes.text_width
        self.token_embedding = nn.Embedding(sizes.vocabulary, width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(sizes.context, width))
        self.transformer = Transformer(width, sizes.text_layers, CausalBlock)
        self.ln_final = WideLayerNorm(width)
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, sizes.embed_dim))
        self.logit_scale = nn.Parameter(torch.tensor(2.6593))  # log(1 / 0.07)

    def text_states(
        self, tokens: torch.Tensor, embedded: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Tokens ``N L`` -> state at the end token, the highest number of a text: ``N W``.

        ``embedded`` ``N L W`` takes the place of their embeddings.
        """
        x = self.token_embedding(tokens) if embedded is None else embedded
        x = x + self.positional_embedding[: tokens.shape[1]].to(x.dtype)
        for block in self.transformer.resblocks:
            x = block(x, 1)
        ends = tokens.argmax(-1)
        return self.ln_final(x[torch.arange(len(x), device=x.device), ends])

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens ``N L`` -> features ``N D``, not normalised."""
        return self.text_states(tokens) @ self.text_projection

    def use_plain_gelu(self) -> Clip:
        """CLIPs that open_clip trained have PyTorch's GELU."""
        for block in (*self.visual.transformer.resblocks, *self.transformer.resblocks):
            block.mlp.gelu = nn.GELU()
        return self
