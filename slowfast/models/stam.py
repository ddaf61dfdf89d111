"""STAM (arXiv 2103.13915): a ViT encodes each frame, a transformer over frames does the rest."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.attention import TransformerBlock
from slowfast.layers.checkpointing import recomputed_blocks, run_blocks
from slowfast.layers.patch_embed import FramePatchEmbed
from slowfast.layers.positions import resize_grid
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP, VideoModel, init_transformer
from slowfast.models.spec import ModelSpec
from slowfast.models.vit import VIT_KEYS, check_vit, init_from_scratch
from slowfast.utils.errors import Problem, UserError

STAM = register_section(
    Section(
        "STAM",
        "STAM",
        VIT_KEYS
        | {
            "DROP_PATH_RATE": Key(
                0.0, "Drop path of the last block, linear from 0.", ge=0.0, le=1.0
            ),
            "AGGREGATION": Key(
                "transformer",
                "How frames become a clip: a transformer with a class token, or their mean.",
                choices=("transformer", "mean"),
            ),
            "TEMPORAL_LAYERS": Key(6, "Layers of that transformer.", ge=1),
            "TEMPORAL_HEADS": Key(8, "Its heads.", ge=1),
            "TEMPORAL_MLP_DIM": Key(2048, "Width of its feed-forward layers.", ge=1),
            "TEMPORAL_DROPOUT": Key(0.1, "Its dropout.", ge=0.0, le=1.0),
            "PRETRAIN_NAME": Key(
                "",
                "Weights to start from: a path or a name below MODEL.PRETRAINED_DIR "
                "(ImageNet ViT of timm), or empty.",
            ),
        },
    )
)


class TemporalAggregate(nn.Module):
    """Frames ``B T C`` -> clip ``B C``: the class token after a post-norm transformer over time."""

    def __init__(self, dim: int, frames: int, options: CfgNode):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            dim,
            options.TEMPORAL_HEADS,
            options.TEMPORAL_MLP_DIM,
            options.TEMPORAL_DROPOUT,
            batch_first=True,
        )
        self.transformer_enc = nn.TransformerEncoder(
            layer, options.TEMPORAL_LAYERS, norm=nn.LayerNorm(dim), enable_nested_tensor=False
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, frames + 1, dim))
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        expected = self.pos_embed.shape[1] - 1
        if x.shape[1] != expected:
            raise UserError(
                f"a clip has {x.shape[1]} frames, the network was built for {expected}",
                "give it clips of that length, or build it with DATA.NUM_FRAMES of yours",
                "DATA.NUM_FRAMES",
            )
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        return self.transformer_enc(x + self.pos_embed)[:, 0]


class MeanAggregate(nn.Module):
    """Frames ``B T C`` -> clip ``B C``: their mean."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1)


def check_stam(cfg: CfgNode) -> Iterable[Problem]:
    """Problems of a configuration of STAM."""
    options = cfg.STAM
    yield from check_vit(cfg, "STAM")
    if options.AGGREGATION == "transformer" and options.EMBED_DIM % options.TEMPORAL_HEADS:
        yield Problem(
            f"{options.EMBED_DIM} channels cannot be divided among "
            f"{options.TEMPORAL_HEADS} heads over time",
            "change STAM.TEMPORAL_HEADS",
            "STAM.EMBED_DIM",
        )


@MODEL_REGISTRY.register("STAM")
class Stam(VideoModel):
    """16, 32 or 64 frames by ``DATA.NUM_FRAMES``; published input is [0, 1], not normalised."""

    spec = ModelSpec(
        initial_weights=lambda cfg: cfg.STAM.PRETRAIN_NAME,
        no_weight_decay=lambda model: {"pos_embed", "cls_token"},
        check=check_stam,
        test_overrides=TINY_CLIP
        | {
            "STAM.PATCH_SIZE": 8,
            "STAM.EMBED_DIM": 32,
            "STAM.DEPTH": 2,
            "STAM.NUM_HEADS": 2,
            "STAM.TEMPORAL_LAYERS": 1,
            "STAM.TEMPORAL_HEADS": 2,
            "STAM.TEMPORAL_MLP_DIM": 64,
            "STAM.TEMPORAL_DROPOUT": 0.0,
        },
    )

    def __init__(self, cfg: CfgNode):
        super().__init__()
        options = cfg.STAM
        dim, frames = options.EMBED_DIM, cfg.DATA.NUM_FRAMES
        side = cfg.DATA.TRAIN_CROP_SIZE // options.PATCH_SIZE
        self.recomputed = recomputed_blocks(cfg.MODEL, 1)[0]
        self.patch_embed = FramePatchEmbed(dim, options.PATCH_SIZE)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, side**2 + 1, dim))
        rates = torch.linspace(0, options.DROP_PATH_RATE, options.DEPTH).tolist()
        self.blocks = nn.ModuleList(
            TransformerBlock(dim, options.NUM_HEADS, mlp_ratio=options.MLP_RATIO, drop_path=rate)
            for rate in rates
        )
        self.norm = nn.LayerNorm(dim)
        init_transformer(self)
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)
        over_time = options.AGGREGATION == "transformer"
        self.aggregate = TemporalAggregate(dim, frames, options) if over_time else MeanAggregate()
        self.head = nn.Linear(dim, cfg.MODEL.NUM_CLASSES)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        if options.INIT == "scratch":
            # All that the second transformer knows of a frame is its class token, which has to say
            # where things are: places and tokens weigh as much as what is seen.
            times = self.aggregate.pos_embed[:, 1:] if over_time else None
            init_from_scratch(self, times, space=1.0, token=1.0)

    def frame_features(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> the class token of every frame, ``B T C``."""
        b = video.shape[0]
        x = self.patch_embed(video)
        pos = resize_grid(self.pos_embed, x.shape[2], x.shape[3])
        x = x.flatten(2, 3).flatten(0, 1)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + pos
        x = run_blocks(self.blocks, x, self.recomputed)
        return self.norm(x)[:, 0].unflatten(0, (b, -1))

    def forward_features(self, video: torch.Tensor) -> torch.Tensor:
        return self.aggregate(self.frame_features(video))
