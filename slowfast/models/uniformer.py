"""UniFormer (arXiv 2201.09450), with or without STFM in place of its last stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from einops import rearrange
from timm.layers import DropPath
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.attention import Attention, TransformerBlock
from slowfast.layers.checkpointing import checkpointed_blocks, run_checkpointed
from slowfast.layers.conv import DepthwiseConv3d, PointwiseConv3d
from slowfast.layers.mlp import ConvMlp
from slowfast.layers.patch_embed import ConvPatchEmbed
from slowfast.layers.stfm import PATCH, StfmBlock, StfmOptions, StfmShape
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP
from slowfast.models.looks.networks import trace_uniformer
from slowfast.models.looks.trace import Trace
from slowfast.models.spec import ModelSpec, State, WeightSource
from slowfast.models.stfm_model import (
    STFM_PARTS,
    STFM_SOURCE,
    StfmModel,
    check_stfm,
    has_stfm,
    read_stfm_options,
)
from slowfast.utils.errors import Problem

UNIFORMER = register_section(
    Section(
        "UNIFORMER",
        "UniFormer",
        {
            "DEPTH": Key(
                [3, 4, 8, 3],
                "Blocks of the four stages (S; B: 5, 8, 20, 7).",
                item=int,
                min_length=4,
                ge=0,
            ),
            "EMBED_DIM": Key(
                [64, 128, 320, 512], "Channels of the four stages.", item=int, min_length=4, ge=1
            ),
            "HEAD_DIM": Key(64, "Channels per attention head.", ge=1),
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
                0.1, "Drop path rate of the last block, linear from 0.", ge=0.0, le=1.0
            ),
            "SPLIT": Key(False, "Attention over time, then over space, instead of jointly."),
            "STD": Key(False, "Patch embeddings of stages 2 to 4 span three frames."),
            "PRETRAIN_NAME": Key(
                "",
                "Weights to start from: a file of MODEL.PRETRAINED_DIR without '.pth' "
                "(pretrained/index.yaml), or empty.",
            ),
        },
        only_if={"MODEL.MODEL_NAME": "Uniformer"},
    )
)


class ConvBlock(nn.Module):
    """Local block on ``B C T H W``: depthwise 5x5x5 affinity, then a convolutional MLP."""

    def __init__(self, dim: int, mlp_ratio: float, drop: float, drop_path: float):
        super().__init__()
        self.pos_embed = DepthwiseConv3d(dim, 3)
        self.norm1 = nn.BatchNorm3d(dim)
        self.conv1 = PointwiseConv3d(dim, dim)
        self.conv2 = PointwiseConv3d(dim, dim)
        self.attn = DepthwiseConv3d(dim, 5)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = nn.BatchNorm3d(dim)
        self.mlp = ConvMlp(dim, int(dim * mlp_ratio), drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T H W`` -> ``B C T H W``."""
        x = x + self.pos_embed(x)
        x = x + self.drop_path(self.conv2(self.attn(self.conv1(self.norm1(x)))))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class JointBlock(TransformerBlock):
    """Global block on ``B C T H W``: joint attention over all T H W tokens."""

    def __init__(self, dim: int, num_heads: int, **options: object):
        super().__init__(dim, num_heads, norm_eps=1e-6, **options)
        self.pos_embed = DepthwiseConv3d(dim, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T H W`` -> ``B C T H W``."""
        x = x + self.pos_embed(x)
        _, _, t, h, _ = x.shape
        tokens = super().forward(rearrange(x, "b c t h w -> b (t h w) c"))
        return rearrange(tokens, "b (t h w) c -> b c t h w", t=t, h=h)


class SplitBlock(TransformerBlock):
    """Global block on ``B C T H W``: attention over time, then over space."""

    def __init__(self, dim: int, num_heads: int, **options: object):
        super().__init__(dim, num_heads, norm_eps=1e-6, **options)
        self.pos_embed = DepthwiseConv3d(dim, 3)
        self.t_norm = nn.LayerNorm(dim, eps=1e-6)
        attention = {k: options[k] for k in ("qkv_bias", "scale", "attn_drop") if k in options}
        self.t_attn = Attention(dim, num_heads, proj_drop=options.get("drop", 0.0), **attention)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T H W`` -> ``B C T H W``."""
        b, _, _, h, w = x.shape
        x = x + self.pos_embed(x)
        over_time = rearrange(x, "b c t h w -> (b h w) t c")
        over_time = over_time + self.drop_path(self.t_attn(self.t_norm(over_time)))
        frames = rearrange(over_time, "(b h w) t c -> (b t) (h w) c", b=b, h=h)
        # As released: the residual is the input of the block, not the temporal branch.
        residual = rearrange(x, "b c t h w -> (b t) (h w) c")
        y = residual + self.drop_path(self.attn(self.norm1(frames)))
        y = y + self.drop_path(self.mlp(self.norm2(y)))
        return rearrange(y, "(b t) (h w) c -> b c t h w", b=b, h=h)


def check_uniformer(cfg: CfgNode) -> Iterable[Problem]:
    """Problems of a configuration of UniFormer."""
    options = cfg.UNIFORMER
    for name in ("DEPTH", "EMBED_DIM"):
        if len(options[name]) != 4:
            yield Problem("must have four entries", "one per stage", f"UNIFORMER.{name}")
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
        yield from check_stfm(cfg, stride_t=2)


def _check_crops(cfg: CfgNode) -> Iterable[Problem]:
    multiple = PATCH if cfg.STFM.ENABLE else 32
    for key, used in (("TRAIN_CROP_SIZE", True), ("TEST_CROP_SIZE", cfg.TEST.ENABLE)):
        size = cfg.DATA[key]
        # Without STFM the strided convolutions ignore a remainder.
        if used and (size < multiple or (cfg.STFM.ENABLE and size % multiple)):
            yield Problem(
                f"{size} does not suit this network", f"use a multiple of {multiple}", f"DATA.{key}"
            )


def uniformer_layer(model: Uniformer, name: str) -> int:
    """Layer of a parameter for ``SOLVER.LAYER_DECAY``.

    The first patch embedding is layer 0 and blocks count over the stages from 1. A later patch
    embedding belongs to the block after it. Everything else is the last layer.
    """
    before = 0
    for stage in (1, 2, 3, 4, 40):
        if stage == 1 and name.startswith("patch_embed1."):
            return 0
        if name.startswith(f"patch_embed{stage}."):
            return before + 1
        if name.startswith(f"blocks{stage}."):
            return before + int(name.split(".")[1]) + 1
        before += len(getattr(model, f"blocks{stage}", ()))
    return before + 1


# -- weights ---------------------------------------------------------------------------------


def is_uniformer(state: State) -> bool:
    """Whether a state dict is that of a UniFormer without STFM."""
    names = {"patch_embed1.proj.weight", "blocks1.0.pos_embed.weight"}
    return names <= set(state) and not has_stfm(state)


def is_image_uniformer(state: State) -> bool:
    """Whether a state dict is that of a UniFormer over images: convolutions without time."""
    return is_uniformer(state) and state["patch_embed1.proj.weight"].ndim == 4


def is_video_uniformer(state: State) -> bool:
    """Whether a state dict is that of a UniFormer over videos."""
    return is_uniformer(state) and not is_image_uniformer(state)


def last_stage_to_stfm(state: State, model: Uniformer) -> State:
    """Initialise ``blocks40`` with stage 4 of a UniFormer without STFM."""
    if not hasattr(model, "blocks40"):
        return state
    adapted = {}
    for name, value in state.items():
        if name.startswith("blocks4.") and "pos_embed" not in name:
            adapted[name.replace("blocks4.", "blocks40.", 1)] = value
        elif not name.startswith(("blocks4.", "patch_embed4.", "norm.")):
            adapted[name] = value
    return adapted


_BASE = {"depth": (5, 8, 20, 7), "drop_path_rate": 0.3}


@MODEL_REGISTRY.register("Uniformer")
class Uniformer(StfmModel):
    """Two convolutional and two attention stages; ``stfm`` replaces the last one.

    Four-tuples have one entry per stage. ``crop_size`` matters to STFM only; clips can have any
    number of frames (``num_frames`` is part of the common interface).
    """

    spec = ModelSpec(
        sources=(
            WeightSource(
                "UniFormer (ImageNet)", is_image_uniformer, last_stage_to_stfm, STFM_PARTS
            ),
            WeightSource("UniFormer (video)", is_video_uniformer, last_stage_to_stfm, STFM_PARTS),
            STFM_SOURCE,
        ),
        initial_weights=lambda cfg: cfg.UNIFORMER.PRETRAIN_NAME,
        weights_key="UNIFORMER.PRETRAIN_NAME",
        no_weight_decay=lambda model: {"pos_embed", "cls_token"},
        layer_of=uniformer_layer,
        check=check_uniformer,
        variants={
            "uniformer_s": {},
            "uniformer_b": _BASE,
            "uniformer_s_stfm": {"stfm": StfmOptions(num_tokens=16)},
            "uniformer_b_stfm": {**_BASE, "stfm": StfmOptions(num_tokens=64)},
        },
        test_overrides=TINY_CLIP
        | {
            "UNIFORMER.DEPTH": [1, 1, 1, 1],
            "UNIFORMER.EMBED_DIM": [8, 16, 32, 32],
            "UNIFORMER.HEAD_DIM": 16,
            "STFM.NUM_TOKENS": 3,
        },
    )

    def __init__(
        self,
        *,
        num_classes: int = 400,
        num_frames: int = 16,
        crop_size: int = 224,
        depth: Sequence[int] = (3, 4, 8, 3),
        embed_dim: Sequence[int] = (64, 128, 320, 512),
        head_dim: int = 64,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qkv_scale: float | None = None,
        representation_size: int | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        split: bool = False,
        three_frame_patches: bool = False,
        stfm: StfmOptions | None = None,
        checkpointed_blocks: Sequence[float] = (0, 0, 0, 0),
    ):
        super().__init__()
        self.num_checkpointed = tuple(checkpointed_blocks)
        rates = torch.linspace(0, drop_path_rate, sum(depth), device="cpu").split(list(depth))
        rates = [stage_rates.tolist() for stage_rates in rates]
        self._add_patch_embeds(embed_dim[:3] if stfm else embed_dim, three_frame_patches)
        for stage in (1, 2):
            blocks = [
                ConvBlock(embed_dim[stage - 1], mlp_ratio, drop_rate, rate)
                for rate in rates[stage - 1]
            ]
            setattr(self, f"blocks{stage}", nn.ModuleList(blocks))
        block = SplitBlock if split else JointBlock
        options = {
            "mlp_ratio": mlp_ratio,
            "drop": drop_rate,
            "qkv_bias": qkv_bias,
            "scale": qkv_scale,
            "attn_drop": attn_drop_rate,
        }

        dim3, dim4 = embed_dim[2:]
        self.blocks3 = nn.ModuleList(_blocks(block, dim3, head_dim, rates[2], options))
        if stfm:
            shape = StfmShape(dim3, dim4, crop_size)
            self.build_stfm(stfm, shape, _blocks(StfmBlock, dim4, head_dim, rates[3], options))
        else:
            self.blocks4 = nn.ModuleList(_blocks(block, dim4, head_dim, rates[3], options))
            self.norm = nn.BatchNorm3d(dim4)
        self.pre_logits = nn.Identity()
        if representation_size:
            self.pre_logits = nn.Sequential()
            self.pre_logits.add_module("fc", nn.Linear(dim4, representation_size))
            self.pre_logits.add_module("act", nn.Tanh())
        self.head = nn.Linear(representation_size or dim4, num_classes)
        self._init_weights()

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> Uniformer:
        """The network that a configuration describes, with random weights."""
        model, section = cfg.MODEL, cfg.UNIFORMER
        return cls(
            num_classes=model.NUM_CLASSES,
            num_frames=cfg.DATA.NUM_FRAMES,
            crop_size=cfg.DATA.TRAIN_CROP_SIZE,
            depth=section.DEPTH,
            embed_dim=section.EMBED_DIM,
            head_dim=section.HEAD_DIM,
            mlp_ratio=section.MLP_RATIO,
            qkv_bias=section.QKV_BIAS,
            qkv_scale=section.QKV_SCALE,
            representation_size=section.REPRESENTATION_SIZE,
            drop_rate=section.DROPOUT_RATE,
            attn_drop_rate=section.ATTENTION_DROPOUT_RATE,
            drop_path_rate=section.DROP_DEPTH_RATE,
            split=section.SPLIT,
            three_frame_patches=section.STD,
            stfm=read_stfm_options(cfg),
            checkpointed_blocks=checkpointed_blocks(
                4,
                every_block=model.ACT_CHECKPOINT,
                per_stage=model.CHECKPOINT_NUM if model.USE_CHECKPOINT else (),
            ),
        )

    def _add_patch_embeds(self, dims: Sequence[int], three_frames: bool) -> None:
        """``patch_embed1`` and the one before each later stage."""
        self.patch_embed1 = ConvPatchEmbed(3, dims[0], (3, 4, 4), (2, 4, 4), (1, 0, 0))
        kernel, padding = ((3, 2, 2), (1, 0, 0)) if three_frames else ((1, 2, 2), (0, 0, 0))
        for stage in range(2, len(dims) + 1):
            embed = ConvPatchEmbed(dims[stage - 2], dims[stage - 1], kernel, (1, 2, 2), padding)
            setattr(self, f"patch_embed{stage}", embed)

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, SplitBlock):
                # The temporal branch is initially the identity (UniFormer).
                nn.init.zeros_(module.t_attn.qkv.weight)
                if module.t_attn.qkv.bias is not None:
                    nn.init.zeros_(module.t_attn.qkv.bias)
                nn.init.ones_(module.t_attn.proj.weight)
                nn.init.zeros_(module.t_attn.proj.bias)

    def _run_stages(self, x: torch.Tensor, stages: Sequence[int]) -> torch.Tensor:
        for stage in stages:
            x = getattr(self, f"patch_embed{stage}")(x)
            blocks = getattr(self, f"blocks{stage}")
            x = run_checkpointed(blocks, x, self.num_checkpointed[stage - 1])
        return x

    def features_and_losses(
        self, video: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """``B 3 T H W`` -> features ``B D`` and auxiliary losses by name."""
        x = self._run_stages(video, (1, 2, 3))
        if self.stfm_options:
            return self.apply_stfm(x, video, self.num_checkpointed[3])
        return self.norm(self._run_stages(x, (4,))).mean((2, 3, 4)), {}

    def attention_map(self, trace: Trace, shape: tuple[int, ...]) -> torch.Tensor:
        return trace_uniformer(trace, self, shape)


def _blocks(
    block: type[nn.Module], dim: int, head_dim: int, rates: list[float], options: dict
) -> Iterator[nn.Module]:
    """A generator, so that blocks are initialised in the order they are consumed."""
    for rate in rates:
        yield block(dim, dim // head_dim, drop_path=rate, **options)
