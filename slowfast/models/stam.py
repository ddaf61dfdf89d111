"""STAM (arXiv 2103.13915): a ViT encodes each frame, a transformer over frames aggregates them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from einops import rearrange
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.attention import TransformerBlock
from slowfast.layers.checkpointing import checkpointed_blocks, run_checkpointed
from slowfast.layers.patch_embed import FramePatchEmbed
from slowfast.layers.positions import resize_pos_embed_nearest, resize_pos_embed_nearest_1d
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP, VideoModel, init_transformer
from slowfast.models.looks.networks import trace_stam
from slowfast.models.looks.trace import Trace
from slowfast.models.spec import ModelSpec, State, WeightSource
from slowfast.models.vit import (
    VIT_KEYS,
    VIT_SOURCE,
    check_vit,
    init_from_scratch,
    layer_of_block,
    resize_square_pos_embed,
)
from slowfast.utils.errors import Problem, UserError

STAM = register_section(
    Section(
        "STAM",
        "STAM",
        VIT_KEYS
        | {
            "DROP_PATH_RATE": Key(
                0.0, "Drop path rate of the last block, linear from 0.", ge=0.0, le=1.0
            ),
            "AGGREGATION": Key(
                "transformer",
                "How frames become a clip: a transformer with a class token, or their mean.",
                choices=("transformer", "mean"),
            ),
            "TEMPORAL_LAYERS": Key(6, "Layers of the transformer over frames.", ge=1),
            "TEMPORAL_HEADS": Key(8, "Attention heads of the transformer over frames.", ge=1),
            "TEMPORAL_MLP_DIM": Key(2048, "Width of the feed-forward layers over frames.", ge=1),
            "TEMPORAL_DROPOUT": Key(0.1, "Dropout of the transformer over frames.", ge=0.0, le=1.0),
            "PRETRAIN_NAME": Key(
                "",
                "Weights to start from: a path or a name below MODEL.PRETRAINED_DIR "
                "(ImageNet ViT of timm), or empty.",
            ),
        },
        only_if={"MODEL.MODEL_NAME": "STAM"},
    )
)


class TemporalAggregate(nn.Module):
    """Frames ``B T C`` -> clip ``B C``: the class token after a post-norm transformer over time."""

    def __init__(
        self,
        dim: int,
        num_frames: int,
        *,
        num_layers: int,
        num_heads: int,
        mlp_dim: int,
        dropout: float,
    ):
        super().__init__()
        layer = nn.TransformerEncoderLayer(dim, num_heads, mlp_dim, dropout, batch_first=True)
        self.transformer_enc = nn.TransformerEncoder(
            layer, num_layers, norm=nn.LayerNorm(dim), enable_nested_tensor=False
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, num_frames + 1, dim))
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B T C`` -> ``B C``; UserError if T is not the number of frames of the embedding."""
        expected = self.pos_embed.shape[1] - 1
        if x.shape[1] != expected:
            raise UserError(
                f"a clip has {x.shape[1]} frames, the network was built for {expected}",
                "give it clips of that length, or build it with DATA.NUM_FRAMES of yours",
                "DATA.NUM_FRAMES",
            )
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.transformer_enc(x + self.pos_embed)[:, 0]


class MeanAggregate(nn.Module):
    """Frames ``B T C`` -> clip ``B C``: their mean."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B T C`` -> ``B C``."""
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


def is_stam(state: State) -> bool:
    """Whether a state dict is that of a STAM with a transformer over frames."""
    return any(name.startswith("aggregate.") for name in state)


def resize_frame_positions(
    name: str, tensor: torch.Tensor, shape: tuple[int, ...]
) -> torch.Tensor | None:
    """``aggregate.pos_embed`` ``1 1+T C`` for another number of frames, nearest neighbour."""
    if name != "aggregate.pos_embed" or tensor.ndim != 3 or tensor.shape[2:] != shape[2:]:
        return None
    frames = resize_pos_embed_nearest_1d(tensor[:, 1:], shape[1] - 1)
    return torch.cat([tensor[:, :1], frames], dim=1)


@MODEL_REGISTRY.register("STAM")
class Stam(VideoModel):
    """16, 32 or 64 frames by ``num_frames``; published input is [0, 1], not normalised.

    ``aggregation`` is ``transformer`` or ``mean``; ``temporal_*`` are sizes of the transformer
    over frames; ``init`` is ``published`` or ``scratch`` (see ``STAM.INIT``); ``stem`` is that
    of :class:`FramePatchEmbed`.
    """

    spec = ModelSpec(
        sources=(WeightSource("STAM", is_stam), VIT_SOURCE),
        resizers=(resize_square_pos_embed, resize_frame_positions),
        initial_weights=lambda cfg: cfg.STAM.PRETRAIN_NAME,
        weights_key="STAM.PRETRAIN_NAME",
        no_weight_decay=lambda model: {"pos_embed", "cls_token"},
        layer_of=layer_of_block,
        check=check_stam,
        variants={f"stam_{frames}": {"num_frames": frames} for frames in (16, 32, 64)},
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

    def __init__(
        self,
        *,
        num_classes: int = 400,
        num_frames: int = 16,
        crop_size: int = 224,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        aggregation: str = "transformer",
        temporal_layers: int = 6,
        temporal_heads: int = 8,
        temporal_mlp_dim: int = 2048,
        temporal_dropout: float = 0.1,
        init: str = "published",
        stem: str = "patch",
        checkpointed_blocks: float = 0,
    ):
        super().__init__()
        self.num_checkpointed = checkpointed_blocks
        self.patch_embed = FramePatchEmbed(embed_dim, patch_size, stem=stem)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        num_positions = (crop_size // patch_size) ** 2 + 1
        self.pos_embed = nn.Parameter(torch.zeros(1, num_positions, embed_dim))
        rates = torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(
            TransformerBlock(embed_dim, num_heads, mlp_ratio=mlp_ratio, drop_path=rate)
            for rate in rates
        )
        self.norm = nn.LayerNorm(embed_dim)
        init_transformer(self)
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)
        if aggregation == "transformer":
            self.aggregate = TemporalAggregate(
                embed_dim,
                num_frames,
                num_layers=temporal_layers,
                num_heads=temporal_heads,
                mlp_dim=temporal_mlp_dim,
                dropout=temporal_dropout,
            )
        else:
            self.aggregate = MeanAggregate()
        self.head = nn.Linear(embed_dim, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        if init == "scratch":
            # The transformer over frames sees only the class token of a frame, which has to carry
            # where things are: positions and tokens get the same scale as linear patches. Patches
            # of convolutions say what is there and how it moves, and are to weigh more.
            linear = stem == "patch"
            temporal_pos = self.aggregate.pos_embed[:, 1:] if aggregation == "transformer" else None
            init_from_scratch(
                self,
                temporal_pos,
                spatial_scale=1.0 if linear else 0.3,
                token_std=1.0 if linear else 0.0,
            )

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> Stam:
        """The network that a configuration describes, with random weights."""
        model, section = cfg.MODEL, cfg.STAM
        (num_checkpointed,) = checkpointed_blocks(
            1,
            every_block=model.ACT_CHECKPOINT,
            per_stage=model.CHECKPOINT_NUM if model.USE_CHECKPOINT else (),
        )
        return cls(
            num_classes=model.NUM_CLASSES,
            num_frames=cfg.DATA.NUM_FRAMES,
            crop_size=cfg.DATA.TRAIN_CROP_SIZE,
            patch_size=section.PATCH_SIZE,
            embed_dim=section.EMBED_DIM,
            depth=section.DEPTH,
            num_heads=section.NUM_HEADS,
            mlp_ratio=section.MLP_RATIO,
            drop_path_rate=section.DROP_PATH_RATE,
            aggregation=section.AGGREGATION,
            temporal_layers=section.TEMPORAL_LAYERS,
            temporal_heads=section.TEMPORAL_HEADS,
            temporal_mlp_dim=section.TEMPORAL_MLP_DIM,
            temporal_dropout=section.TEMPORAL_DROPOUT,
            init=section.INIT,
            stem=section.STEM,
            checkpointed_blocks=num_checkpointed,
        )

    def frame_features(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> the class token of every frame, ``B T C``."""
        x = self.patch_embed(video)
        pos = resize_pos_embed_nearest(self.pos_embed, x.shape[2], x.shape[3])
        x = rearrange(x, "b t h w c -> (b t) (h w) c")
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + pos
        x = run_checkpointed(self.blocks, x, self.num_checkpointed)
        return rearrange(self.norm(x)[:, 0], "(b t) c -> b t c", b=video.shape[0])

    def forward_features(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> features of the clip, ``B C``."""
        return self.aggregate(self.frame_features(video))

    def attention_map(self, trace: Trace, shape: tuple[int, ...]) -> torch.Tensor:
        return trace_stam(trace, self, shape)
