"""CLIP's two towers (arXiv 2103.00020): frames and texts into one space, names as OpenAI's."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from slowfast.layers.checkpointing import run_checkpointed
from slowfast.layers.patch_embed import build_stem, embed_frames
from slowfast.layers.positions import resize_clip_pos_embed
from slowfast.models.clip.blocks import (
    CLIP_BLOCK_REGISTRY,
    BlockBuilder,
    CausalBlock,
    ClipBlock,
    LayerNormFp32,
)
from slowfast.models.clip.sizes import ClipSizes


def block_builder(temporal_modeling: str, options: Any = None) -> BlockBuilder:
    """``width -> block`` of a registered kind of temporal modelling ("": CLIP's own block)."""
    return functools.partial(CLIP_BLOCK_REGISTRY.get(temporal_modeling), options=options)


class Transformer(nn.Module):
    """Stack of residual attention blocks, initialised as in CLIP."""

    def __init__(self, width: int, layers: int, build_block: BlockBuilder):
        super().__init__()
        self.resblocks = nn.ModuleList(build_block(width) for _ in range(layers))
        std = width**-0.5
        for block in self.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=std)
            nn.init.normal_(block.attn.out_proj.weight, std=std * (2 * layers) ** -0.5)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=std * (2 * layers) ** -0.5)


class VisualTower(nn.Module):
    """Frames -> ``embed_dim`` features each: class token, ``ln_post``, ``proj``.

    ``checkpointing``: activations of all blocks are recomputed in the backward pass.
    """

    def __init__(
        self,
        sizes: ClipSizes,
        build_block: BlockBuilder = ClipBlock,
        *,
        checkpointing: bool = False,
    ):
        super().__init__()
        width, patch = sizes.width, sizes.patch
        scale, self.patch = width**-0.5, patch
        self.num_checkpointed = sizes.layers if checkpointing else 0
        self.conv1 = build_stem(sizes.stem, patch, width, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        positions = (sizes.resolution // patch) ** 2 + 1
        self.positional_embedding = nn.Parameter(scale * torch.randn(positions, width))
        self.ln_pre = LayerNormFp32(width)
        self.transformer = Transformer(width, sizes.layers, build_block)
        self.ln_post = LayerNormFp32(width)
        self.proj = nn.Parameter(scale * torch.randn(width, sizes.embed_dim))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> ``B T D``, not normalised."""
        frames = video.shape[2]
        x = embed_frames(self.conv1, video).flatten(0, 1).flatten(1, 2)  # B*T N C
        token = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        x = torch.cat([token, x], dim=1)
        x = self.ln_pre(
            x + resize_clip_pos_embed(self.positional_embedding, x.shape[1]).to(x.dtype)
        )
        x = run_checkpointed(self.transformer.resblocks, x, self.num_checkpointed, frames)
        return (self.ln_post(x[:, 0]) @ self.proj).unflatten(0, (-1, frames))


class CLIP(nn.Module):
    """Both towers and ``logit_scale``; ``visual`` replaces the vision transformer."""

    def __init__(
        self,
        sizes: ClipSizes,
        build_block: BlockBuilder = ClipBlock,
        *,
        checkpointing: bool = False,
        visual: nn.Module | None = None,
    ):
        super().__init__()
        self.sizes = sizes
        self.visual = visual or VisualTower(sizes, build_block, checkpointing=checkpointing)
        width = sizes.text_width
        self.token_embedding = nn.Embedding(sizes.vocabulary, width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(sizes.context, width))
        self.transformer = Transformer(width, sizes.text_layers, CausalBlock)
        self.ln_final = LayerNormFp32(width)
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, sizes.embed_dim))
        self.logit_scale = nn.Parameter(torch.tensor(2.6593))  # log(1 / 0.07)

    def encode_tokens(
        self, tokens: torch.Tensor, embedded: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Tokens ``N L`` -> hidden state at the end token of each text, ``N W``.

        The end token has the highest number of all tokens. ``embedded`` ``N L W`` replaces the
        embeddings of the tokens.
        """
        x = self.token_embedding(tokens) if embedded is None else embedded
        x = x + self.positional_embedding[: tokens.shape[1]].to(x.dtype)
        for block in self.transformer.resblocks:
            x = block(x, 1)
        ends = tokens.argmax(-1)
        return self.ln_final(x[torch.arange(len(x), device=x.device), ends])

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens ``N L`` -> features ``N D``, not normalised."""
        return self.encode_tokens(tokens) @ self.text_projection

    def use_gelu(self) -> CLIP:
        """Replace the quick GELU of all blocks by PyTorch's, as in CLIPs that open_clip trained."""
        for block in self.modules():
            if isinstance(block, ClipBlock):
                block.mlp.gelu = nn.GELU()
        return self


class FrozenCLIP(CLIP):
    """A CLIP that never learns and always stays in evaluation mode."""

    def __init__(self, sizes: ClipSizes):
        super().__init__(sizes)
        self.requires_grad_(False).eval()

    def copy_weights(self, network: CLIP) -> None:
        """Take over the weights of ``network``, except those of its temporal modelling."""
        weights = network.state_dict()
        self.load_state_dict({name: weights[name] for name in self.state_dict()})

    def train(self, mode: bool = True) -> FrozenCLIP:
        return super().train(False)
