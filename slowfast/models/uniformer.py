"""UniFormer (arXiv 2201.09450), with or without STFM in place of its last stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from timm.layers import DropPath
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.attention import Attention, TransformerBlock
from slowfast.layers.checkpointing import recomputed_blocks, run_blocks
from slowfast.layers.conv import DepthwiseConv3d
from slowfast.layers.mlp import ConvMlp
from slowfast.layers.norm import BatchNorm3d
from slowfast.layers.patch_embed import ConvPatchEmbed
from slowfast.layers.stfm import PATCH, FocusBlock, StfmShape
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP
from slowfast.models.focus import FocusedModel, check_focus, hard_selection
from slowfast.models.spec import ModelSpec
from slowfast.utils.errors import Problem

UNIFORMER = register_section(
    Section(
        "UNIFORMER",
        "UniFormer",
        {
            "DEPTH": Key([3, 4, 8, 3], "Blocks of the four stages (S; B: 5, 8, 20, 7).", item=int),
            "EMBED_DIM": Key([64, 128, 320, 512], "Channels of the four stages.", item=int),
            "HEAD_DIM": Key(64, "Channels of an attention head.", ge=1),
            "MLP_RATIO": Key(4.0, "Width of the MLPs relative to the channels.", gt=0.0),
            "QKV_BIAS": Key(True, "Bias of queries, keys and values."),
            "QKV_SCALE": Key(
                None,
                "Scale of the attention scores; None: HEAD_DIM ** -0.5.",
                type=float,
                optional=True,
            ),
            "REPRESENTATION_SIZE": Key(
                None, "Width of an extra layer before the head.", type=int, optional=True
            ),
            "DROPOUT_RATE": Key(0.0, "Dropout after projections.", ge=0.0, le=1.0),
            "ATTENTION_DROPOUT_RATE": Key(0.0, "Dropout of attention weights.", ge=0.0, le=1.0),
            "DROP_DEPTH_RATE": Key(
                0.1, "Drop path of the last block, linear from 0.", ge=0.0, le=1.0
            ),
            "SPLIT": Key(False, "Attention over time, then over space, instead of jointly."),
            "STD": Key(False, "Patch embeddings of later stages see three frames."),
            "PRETRAIN_NAME": Key(
                "",
                "Weights to start from: a file of MODEL.PRETRAINED_DIR without '.pth' "
                "(pretrained/index.yaml), or empty.",
            ),
        },
    )
)


class ConvBlock(nn.Module):
    """Local block on ``B C T H W``: depthwise 5x5x5 affinity, then a convolutional MLP."""

    def __init__(self, dim: int, mlp_ratio: float, drop: float, drop_path: float):
        super().__init__()
        self.pos_embed = DepthwiseConv3d(dim, 3)
        self.norm1 = BatchNorm3d(dim)
        self.conv1 = nn.Conv3d(dim, dim, 1)
        self.conv2 = nn.Conv3d(dim, dim, 1)
        self.attn = DepthwiseConv3d(dim, 5)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = BatchNorm3d(dim)
        self.mlp = ConvMlp(dim, int(dim * mlp_ratio), drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.pos_embed(x)
        x = x + self.drop_path(self.conv2(self.attn(self.conv1(self.norm1(x)))))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class JointBlock(TransformerBlock):
    """Global block on ``B C T H W``: joint attention over all T H W tokens."""

    def __init__(self, dim: int, heads: int, **options: object):
        super().__init__(dim, heads, norm_eps=1e-6, **options)
        self.pos_embed = DepthwiseConv3d(dim, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.pos_embed(x)
        b, c, t, h, w = x.shape
        tokens = super().forward(x.flatten(2).transpose(1, 2))
        return tokens.reshape(b, t, h, w, c).permute(0, 4, 1, 2, 3)


class SplitBlock(TransformerBlock):
    """Global block on ``B C T H W``: attention over time, then over space."""

    def __init__(self, dim: int, heads: int, **options: object):
        super().__init__(dim, heads, norm_eps=1e-6, **options)
        self.pos_embed = DepthwiseConv3d(dim, 3)
        self.t_norm = nn.LayerNorm(dim, eps=1e-6)
        attention = {k: options[k] for k in ("qkv_bias", "scale", "attn_drop") if k in options}
        self.t_attn = Attention(dim, heads, proj_drop=options.get("drop", 0.0), **attention)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, t, h, w = x.shape
        x = x + self.pos_embed(x)
        over_time = x.permute(0, 3, 4, 2, 1).reshape(b * h * w, t, c)
        over_time = over_time + self.drop_path(self.t_attn(self.t_norm(over_time)))
        frames = over_time.reshape(b, h, w, t, c).permute(0, 3, 1, 2, 4).reshape(b * t, h * w, c)
        # As released: the residual is what entered the block, not the temporal branch.
        entered = x.permute(0, 2, 3, 4, 1).reshape(b * t, h * w, c)
        y = entered + self.drop_path(self.attn(self.norm1(frames)))
        y = y + self.drop_path(self.mlp(self.norm2(y)))
        return y.reshape(b, t, h, w, c).permute(0, 4, 1, 2, 3)


def check_uniformer(cfg: CfgNode) -> Iterable[Problem]:
    """Problems of a configuration of UniFormer."""
    options = cfg.UNIFORMER
    for name in ("DEPTH", "EMBED_DIM"):
        if len(options[name]) != 4:
            yield Problem("must have four entries", "one a stage", f"UNIFORMER.{name}")
            return
    for dim in options.EMBED_DIM[2:]:
        if dim % options.HEAD_DIM:
            yield Problem(
                f"{dim} channels cannot be divided into heads of {options.HEAD_DIM}",
                "change UNIFORMER.EMBED_DIM or UNIFORMER.HEAD_DIM",
                "UNIFORMER.HEAD_DIM",
            )
    yield from _check_crops(cfg)
    if cfg.STFM.ENABLE:
        yield from check_focus(cfg, stride_t=2)


@MODEL_REGISTRY.register("Uniformer")
class Uniformer(FocusedModel):
    """Two convolutional and two attention stages; ``STFM.ENABLE`` replaces the last one."""

    spec = ModelSpec(
        initial_weights=lambda cfg: cfg.UNIFORMER.PRETRAIN_NAME,
        no_weight_decay=lambda model: {"pos_embed", "cls_token"},
        unused_parameters=hard_selection,
        check=check_uniformer,
        test_overrides=TINY_CLIP
        | {
            "UNIFORMER.DEPTH": [1, 1, 1, 1],
            "UNIFORMER.EMBED_DIM": [8, 16, 32, 32],
            "UNIFORMER.HEAD_DIM": 16,
            "STFM.NUM_TOKENS": 3,
        },
    )

    def __init__(self, cfg: CfgNode):
        super().__init__()
        options = cfg.UNIFORMER
        self.with_stfm = cfg.STFM.ENABLE
        self.recomputed = recomputed_blocks(cfg.MODEL, 4)
        dims, depth = list(options.EMBED_DIM), list(options.DEPTH)
        rates = torch.linspace(0, options.DROP_DEPTH_RATE, sum(depth)).split(depth)
        rates = [r.tolist() for r in rates]

        self.patch_embed1 = ConvPatchEmbed(3, dims[0], (3, 4, 4), (2, 4, 4), (1, 0, 0))
        for stage in range(2, 4 if self.with_stfm else 5):
            embed = _later_embed(dims[stage - 2], dims[stage - 1], options.STD)
            setattr(self, f"patch_embed{stage}", embed)
        for stage in (1, 2):
            blocks = [
                ConvBlock(dims[stage - 1], options.MLP_RATIO, options.DROPOUT_RATE, rate)
                for rate in rates[stage - 1]
            ]
            setattr(self, f"blocks{stage}", nn.ModuleList(blocks))
        block = SplitBlock if options.SPLIT else JointBlock
        self.blocks3 = nn.ModuleList(_attention_blocks(block, dims[2], rates[2], options))
        if self.with_stfm:
            shape = StfmShape(dims[2], dims[3], cfg.DATA.TRAIN_CROP_SIZE)
            self.build_focus(cfg, shape, _attention_blocks(FocusBlock, dims[3], rates[3], options))
        else:
            self.blocks4 = nn.ModuleList(_attention_blocks(block, dims[3], rates[3], options))
            self.norm = BatchNorm3d(dims[3])
        width = options.REPRESENTATION_SIZE
        self.pre_logits = nn.Identity()
        if width:
            self.pre_logits = nn.Sequential()
            self.pre_logits.add_module("fc", nn.Linear(dims[3], width))
            self.pre_logits.add_module("act", nn.Tanh())
        self.head = nn.Linear(width or dims[3], cfg.MODEL.NUM_CLASSES)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, SplitBlock):
                # The temporal branch begins as the identity (UniFormer).
                nn.init.zeros_(module.t_attn.qkv.weight)
                if module.t_attn.qkv.bias is not None:
                    nn.init.zeros_(module.t_attn.qkv.bias)
                nn.init.ones_(module.t_attn.proj.weight)
                nn.init.zeros_(module.t_attn.proj.bias)

    def _stages(self, video: torch.Tensor) -> torch.Tensor:
        x = video
        for stage in (1, 2, 3):
            x = getattr(self, f"patch_embed{stage}")(x)
            x = run_blocks(getattr(self, f"blocks{stage}"), x, self.recomputed[stage - 1])
        return x

    def features_and_losses(
        self, video: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        x = self._stages(video)
        if self.with_stfm:
            return self.focus(x, video, self.recomputed[3])
        x = run_blocks(self.blocks4, self.patch_embed4(x), self.recomputed[3])
        return self.norm(x).mean((2, 3, 4)), {}


def _later_embed(in_channels: int, dim: int, three_frames: bool) -> ConvPatchEmbed:
    if three_frames:
        return ConvPatchEmbed(in_channels, dim, (3, 2, 2), (1, 2, 2), (1, 0, 0))
    return ConvPatchEmbed(in_channels, dim, (1, 2, 2), (1, 2, 2))


def _attention_blocks(
    block: type[nn.Module], dim: int, rates: list[float], options: CfgNode
) -> Iterator[nn.Module]:
    """Blocks one by one as they are taken: who asks first draws the first random weights."""
    for rate in rates:
        yield block(
            dim,
            dim // options.HEAD_DIM,
            mlp_ratio=options.MLP_RATIO,
            drop=options.DROPOUT_RATE,
            drop_path=rate,
            qkv_bias=options.QKV_BIAS,
            scale=options.QKV_SCALE,
            attn_drop=options.ATTENTION_DROPOUT_RATE,
        )


def _check_crops(cfg: CfgNode) -> Iterable[Problem]:
    multiple = PATCH if cfg.STFM.ENABLE else 32
    for key, used in (("TRAIN_CROP_SIZE", True), ("TEST_CROP_SIZE", cfg.TEST.ENABLE)):
        size = cfg.DATA[key]
        # Without STFM the strided convolutions just leave a remainder out.
        if used and (size < multiple or (cfg.STFM.ENABLE and size % multiple)):
            yield Problem(
                f"{size} does not suit this network", f"use a multiple of {multiple}", f"DATA.{key}"
            )
