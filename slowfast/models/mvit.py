"""MViT v1 and v2 (arXiv 2104.11227, 2112.01526): fewer places and more channels stage by stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.checkpointing import recomputed_blocks, run_blocks
from slowfast.layers.pooling_attention import Grid, PoolingBlock, PoolingSpec
from slowfast.layers.positions import sincos_3d
from slowfast.layers.stfm import FocusBlock, StfmShape
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP, init_transformer
from slowfast.models.focus import FocusedModel, check_focus, hard_selection
from slowfast.models.spec import ModelSpec
from slowfast.models.vit import layer_of_block
from slowfast.utils.errors import Problem

_MODES = ("conv", "conv_unshared", "avg", "max")

MVIT = register_section(
    Section(
        "MVIT",
        "MViT v1 and v2",
        {
            "MODE": Key("conv", "Pooling of queries, keys and values.", choices=_MODES),
            "POOL_FIRST": Key(False, "Pool before the projections."),
            "SEPARATE_QKV": Key(False, "Three projections instead of one."),
            "CLS_EMBED_ON": Key(True, "Use a class token."),
            "PATCH_2D": Key(False, "Patches of single frames (image models)."),
            "PATCH_KERNEL": Key([3, 7, 7], "Kernel of the patch embedding.", item=int),
            "PATCH_STRIDE": Key([2, 4, 4], "Its stride.", item=int),
            "PATCH_PADDING": Key([2, 4, 4], "Its padding.", item=int),
            "EMBED_DIM": Key(96, "Channels of the first stage.", ge=1),
            "NUM_HEADS": Key(1, "Heads of the first stage.", ge=1),
            "MLP_RATIO": Key(4.0, "Width of the MLPs relative to the channels.", gt=0.0),
            "QKV_BIAS": Key(True, "Bias of queries, keys and values."),
            "DROPPATH_RATE": Key(
                0.1, "Drop path of the last block, linear from 0.", ge=0.0, le=1.0
            ),
            "DROPOUT_RATE": Key(0.0, "Dropout after embedding and projections.", ge=0.0, le=1.0),
            "LAYER_SCALE_INIT_VALUE": Key(0.0, "> 0: scale of each branch at the start.", ge=0.0),
            "DEPTH": Key(16, "Blocks.", ge=1),
            "NORM": Key("layernorm", "Normalisation.", choices=("layernorm",)),
            "DIM_MUL": Key([], "[block, factor]: channels are multiplied there."),
            "HEAD_MUL": Key([], "[block, factor]: heads are multiplied there."),
            "DIM_MUL_IN_ATT": Key(False, "Multiply in the attention (v2), not in the MLP before."),
            "POOL_Q_STRIDE": Key([], "[block, t, h, w]: stride of the queries."),
            "POOL_KV_STRIDE": Key([], "[block, t, h, w]: stride of keys and values."),
            "POOL_KV_STRIDE_ADAPTIVE": Key(
                None,
                "Stride of keys and values of the first block, divided by query strides.",
                type=list,
                item=int,
                optional=True,
            ),
            "POOL_KVQ_KERNEL": Key(
                None,
                "Kernel of all poolings; None: stride + 1.",
                type=list,
                item=int,
                optional=True,
            ),
            "USE_ABS_POS": Key(True, "Absolute position embedding."),
            "SEP_POS_EMBED": Key(False, "Apart for space and time."),
            "USE_FIXED_SINCOS_POS": Key(False, "Sines and cosines instead of a learnt one."),
            "REL_POS_SPATIAL": Key(False, "Relative positions in space."),
            "REL_POS_TEMPORAL": Key(False, "Relative positions in time."),
            "REL_POS_ZERO_INIT": Key(False, "Begin relative positions at zero."),
            "RESIDUAL_POOLING": Key(False, "Add the pooled queries to what attention gives."),
            "ZERO_DECAY_POS_CLS": Key(True, "No weight decay for positions and class token."),
            "NORM_STEM": Key(False, "Normalise the tokens before the first block."),
            "HEAD_INIT_SCALE": Key(1.0, "Factor of the head's initial weights.", gt=0.0),
            "USE_MEAN_POOLING": Key(False, "Mean over places instead of the class token."),
            "PRETRAIN_NAME": Key(
                "", "Weights to start from: a path or a name below MODEL.PRETRAINED_DIR, or empty."
            ),
        },
    )
)


def round_width(width: int, factor: float, divisor: int = 1) -> int:
    """``width * factor`` at the nearest multiple of ``divisor``, not below nine tenths of it."""
    if not factor:
        return width
    wanted = width * factor
    rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return int(rounded + divisor if rounded < 0.9 * wanted else rounded)


def _by_block(rows: Sequence[Sequence[float]], length: int, default: object) -> list:
    values = [default] * length
    for number, *rest in rows:
        values[int(number)] = rest[0] if len(rest) == 1 else tuple(int(r) for r in rest)
    return values


def _kernels(options: CfgNode, strides: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    fixed = options.POOL_KVQ_KERNEL
    if fixed is not None:
        return [tuple(fixed) if stride else () for stride in strides]
    return [tuple(s + 1 if s > 1 else s for s in stride) for stride in strides]


def block_specs(options: CfgNode, grid: Grid) -> list[PoolingSpec]:
    """What each block is, for tokens of ``grid`` (PySlowFast's rules)."""
    depth = options.DEPTH
    dim_mul = _by_block(options.DIM_MUL, depth + 1, 1.0)
    head_mul = _by_block(options.HEAD_MUL, depth + 1, 1.0)
    stride_q = _by_block(options.POOL_Q_STRIDE, depth, ())
    stride_kv = _by_block(options.POOL_KV_STRIDE, depth, ())
    if options.POOL_KV_STRIDE_ADAPTIVE is not None:
        now = tuple(options.POOL_KV_STRIDE_ADAPTIVE)
        for number in range(depth):
            if stride_q[number]:
                now = tuple(max(s // q, 1) for s, q in zip(now, stride_q[number]))
            stride_kv[number] = now
    kernel_q, kernel_kv = _kernels(options, stride_q), _kernels(options, stride_kv)
    rates = torch.linspace(0, options.DROPPATH_RATE, depth).tolist()
    dim, heads = options.EMBED_DIM, options.NUM_HEADS
    specs = []
    for number in range(depth):
        heads = round_width(heads, head_mul[number])
        # v2 multiplies in the attention of the block itself, v1 in the MLP of the one before.
        at = number if options.DIM_MUL_IN_ATT else number + 1
        dim_out = round_width(dim, dim_mul[at], round_width(heads, head_mul[at]))
        specs.append(
            PoolingSpec(
                dim,
                dim_out,
                heads,
                grid,
                kernel_q[number],
                kernel_kv[number],
                stride_q[number],
                stride_kv[number],
                mode=options.MODE,
                class_token=options.CLS_EMBED_ON,
                pool_first=options.POOL_FIRST,
                separate_qkv=options.SEPARATE_QKV,
                qkv_bias=options.QKV_BIAS,
                residual_pooling=options.RESIDUAL_POOLING,
                rel_pos_spatial=options.REL_POS_SPATIAL,
                rel_pos_temporal=options.REL_POS_TEMPORAL,
                rel_pos_zero_init=options.REL_POS_ZERO_INIT,
                widen_in_attention=options.DIM_MUL_IN_ATT,
                mlp_ratio=options.MLP_RATIO,
                drop=options.DROPOUT_RATE,
                drop_path=rates[number],
                layer_scale=options.LAYER_SCALE_INIT_VALUE,
            )
        )
        if stride_q[number]:
            grid = tuple(size // stride for size, stride in zip(grid, stride_q[number]))
        dim = dim_out
    return specs


def patch_grid(cfg: CfgNode) -> Grid:
    """Places of the first block, by integer division as published."""
    crop = cfg.DATA.TRAIN_CROP_SIZE
    stride = cfg.MVIT.PATCH_STRIDE
    if cfg.MVIT.PATCH_2D:
        stride = [1, *stride][-3:]
        return (1, crop // stride[1], crop // stride[2])
    return (cfg.DATA.NUM_FRAMES // stride[0], crop // stride[1], crop // stride[2])


class PatchEmbed(nn.Module):
    """Overlapping patches: ``B 3 T H W`` -> tokens ``B N C`` and their grid."""

    def __init__(self, options: CfgNode):
        super().__init__()
        kind = nn.Conv2d if options.PATCH_2D else nn.Conv3d
        last = -2 if options.PATCH_2D else -3
        self.proj = kind(
            3,
            options.EMBED_DIM,
            options.PATCH_KERNEL[last:],
            options.PATCH_STRIDE[last:],
            options.PATCH_PADDING[last:],
        )

    def forward(self, video: torch.Tensor) -> tuple[torch.Tensor, Grid]:
        if isinstance(self.proj, nn.Conv2d):
            x = self.proj(video.squeeze(2)).unsqueeze(2)
        else:
            x = self.proj(video)
        return x.flatten(2).transpose(1, 2), tuple(x.shape[2:])


class TransformerHead(nn.Module):
    """Dropout and the last layer, under the published name ``head.projection``."""

    def __init__(self, dim: int, classes: int, dropout: float, scale: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(dim, classes)
        nn.init.trunc_normal_(self.projection.weight, std=0.02)
        nn.init.constant_(self.projection.bias, 0.02)
        with torch.no_grad():
            self.projection.weight.mul_(scale)
            self.projection.bias.mul_(scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.projection(self.dropout(x))


def undecayed(model: nn.Module) -> set[str]:
    """Positions and class token, with MVIT.ZERO_DECAY_POS_CLS."""
    if not model.options.ZERO_DECAY_POS_CLS:
        return set()
    names = {"cls_token"} if model.options.CLS_EMBED_ON else set()
    if model.options.USE_ABS_POS:
        separate = {"pos_embed_spatial", "pos_embed_temporal", "pos_embed_class"}
        names |= separate if model.options.SEP_POS_EMBED else {"pos_embed"}
    if model.options.REL_POS_SPATIAL:
        names |= {"rel_pos_h", "rel_pos_w"}
    return names | ({"rel_pos_t"} if model.options.REL_POS_TEMPORAL else set())


@MODEL_REGISTRY.register("MViT")
class MViT(FocusedModel):
    """Both versions by the keys of ``MVIT``; ``STFM.ENABLE`` replaces the last stage."""

    spec = ModelSpec(
        initial_weights=lambda cfg: cfg.MVIT.PRETRAIN_NAME,
        no_weight_decay=undecayed,
        layer_of=layer_of_block,
        unused_parameters=hard_selection,
        check=lambda cfg: _check_mvit(cfg),
        test_overrides=TINY_CLIP
        | {
            "MVIT.DEPTH": 3,
            "MVIT.EMBED_DIM": 16,
            "MVIT.DIM_MUL": [[1, 2.0], [2, 2.0]],
            "MVIT.HEAD_MUL": [[1, 2.0], [2, 2.0]],
            "MVIT.POOL_Q_STRIDE": [[0, 1, 1, 1], [1, 1, 2, 2], [2, 1, 2, 2]],
            "MVIT.POOL_KV_STRIDE_ADAPTIVE": [1, 2, 2],
            "MVIT.POOL_KVQ_KERNEL": [3, 3, 3],
            "MVIT.PATCH_PADDING": [1, 3, 3],
            "MVIT.DIM_MUL_IN_ATT": True,
            "MVIT.REL_POS_SPATIAL": True,
            "MVIT.REL_POS_TEMPORAL": True,
            "MVIT.RESIDUAL_POOLING": True,
            "MVIT.USE_ABS_POS": False,
            "MVIT.DROPPATH_RATE": 0.0,
            "MODEL.DROPOUT_RATE": 0.0,
            "STFM.NUM_TOKENS": 3,
        },
    )

    def __init__(self, cfg: CfgNode):
        super().__init__()
        options = self.options = cfg.MVIT
        self.grid = patch_grid(cfg)
        specs = block_specs(options, self.grid)
        self.with_stfm = cfg.STFM.ENABLE
        self.recomputed = recomputed_blocks(cfg.MODEL, 1)[0]
        plain = last_stage(specs, cfg) if self.with_stfm else len(specs)
        self.patch_embed = PatchEmbed(options)
        self._make_positions(options)
        self.pos_drop = nn.Dropout(options.DROPOUT_RATE)
        self.norm_stem = nn.LayerNorm(options.EMBED_DIM, eps=1e-6) if options.NORM_STEM else None
        self.blocks = nn.ModuleList(PoolingBlock(spec) for spec in specs[:plain])
        dim = specs[-1].dim_out
        if self.with_stfm:
            self._make_focus(cfg, specs, plain)
        else:
            self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pre_logits = nn.Identity()
        init_transformer(self, linear_bias=0.02, norm_bias=0.02)
        self.head = TransformerHead(
            dim, cfg.MODEL.NUM_CLASSES, cfg.MODEL.DROPOUT_RATE, options.HEAD_INIT_SCALE
        )

    def _make_positions(self, options: CfgNode) -> None:
        dim, (t, h, w) = options.EMBED_DIM, self.grid
        if options.CLS_EMBED_ON:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        learnt = []
        if options.USE_ABS_POS and options.SEP_POS_EMBED:
            self.pos_embed_spatial = nn.Parameter(torch.zeros(1, h * w, dim))
            self.pos_embed_temporal = nn.Parameter(torch.zeros(1, t, dim))
            learnt = [self.pos_embed_spatial, self.pos_embed_temporal]
            if options.CLS_EMBED_ON:
                self.pos_embed_class = nn.Parameter(torch.zeros(1, 1, dim))
                learnt.append(self.pos_embed_class)
        elif options.USE_ABS_POS:
            fixed = options.USE_FIXED_SINCOS_POS
            start = torch.zeros(1, t * h * w + options.CLS_EMBED_ON, dim)
            if fixed:
                start = sincos_3d(dim, h, t, options.CLS_EMBED_ON)
            self.pos_embed = nn.Parameter(start, requires_grad=not fixed)
            learnt = [] if fixed else [self.pos_embed]
        for parameter in [*learnt, *([self.cls_token] if options.CLS_EMBED_ON else [])]:
            nn.init.trunc_normal_(parameter, std=0.02)

    def _make_focus(self, cfg: CfgNode, specs: list[PoolingSpec], plain: int) -> None:
        before, after = specs[plain - 1], specs[plain:]
        frames, side = cfg.DATA.NUM_FRAMES // self.grid[0], cfg.DATA.TRAIN_CROP_SIZE
        shape = StfmShape(
            before.dim_out, after[-1].dim_out, side, frames, side // specs[plain].grid[1]
        )
        blocks = [
            FocusBlock(shape.dim, spec.heads, mlp_ratio=spec.mlp_ratio, drop_path=spec.drop_path)
            for spec in after
        ]
        self.build_focus(cfg, shape, blocks)

    def _embedded(self, video: torch.Tensor) -> tuple[torch.Tensor, Grid]:
        """Tokens of the clip with class token and absolute positions, and their grid."""
        options = self.options
        x, grid = self.patch_embed(video)
        if options.CLS_EMBED_ON:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        if options.USE_ABS_POS and options.SEP_POS_EMBED:
            t, h, w = self.grid
            pos = self.pos_embed_spatial.repeat(1, t, 1)
            pos = pos + self.pos_embed_temporal.repeat_interleave(h * w, dim=1)
            if options.CLS_EMBED_ON:
                pos = torch.cat([self.pos_embed_class, pos], dim=1)
            x = x + pos
        elif options.USE_ABS_POS:
            x = x + self.pos_embed
        x = self.pos_drop(x)
        return (x if self.norm_stem is None else self.norm_stem(x)), grid

    def features_and_losses(
        self, video: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        x, grid = self._embedded(video)
        for number, block in enumerate(self.blocks):
            x = run_blocks([block], x, self.recomputed - number, grid)
            grid = block.next_grid(grid)
        cls = self.options.CLS_EMBED_ON
        if self.with_stfm:
            x = (x[:, 1:] if cls else x).transpose(1, 2).unflatten(2, grid)
            return self.focus(x, video, self.recomputed)
        if self.options.USE_MEAN_POOLING:
            return self.norm((x[:, 1:] if cls else x).mean(1)), {}
        x = self.norm(x)
        return (x[:, 0] if cls else x.mean(1)), {}


def last_stage(specs: list[PoolingSpec], cfg: CfgNode) -> int:
    """Number of the first block that STFM replaces: that of the last stage, or as chosen."""
    if cfg.STFM.INSERT_AFTER >= 0:
        return cfg.STFM.INSERT_AFTER + 1
    strided = [n for n, spec in enumerate(specs) if max(spec.stride_q, default=1) > 1]
    return strided[-1] if strided else len(specs) * 3 // 4


def _check_mvit(cfg: CfgNode) -> Iterable[Problem]:
    options = cfg.MVIT
    if options.MODE == "conv_unshared" and not options.POOL_FIRST:
        yield Problem("conv_unshared pools all channels", "set MVIT.POOL_FIRST True", "MVIT.MODE")
    length = 2 if options.PATCH_2D else 3
    for name in ("PATCH_KERNEL", "PATCH_STRIDE", "PATCH_PADDING"):
        if len(options[name]) not in (length, 3):
            yield Problem(f"{options[name]} should have {length} numbers", "", f"MVIT.{name}")
            return
    if options.USE_FIXED_SINCOS_POS and (options.SEP_POS_EMBED or options.EMBED_DIM % 16):
        yield Problem(
            "sines and cosines need one table and channels in multiples of 16",
            "set MVIT.SEP_POS_EMBED False, or change MVIT.EMBED_DIM",
            "MVIT.USE_FIXED_SINCOS_POS",
        )
    if not options.PATCH_2D and cfg.DATA.NUM_FRAMES % options.PATCH_STRIDE[0]:
        yield Problem(
            f"{cfg.DATA.NUM_FRAMES} frames are no multiple of MVIT.PATCH_STRIDE "
            f"{options.PATCH_STRIDE[0]} in time",
            "change the one or the other",
            "DATA.NUM_FRAMES",
        )
    if min(patch_grid(cfg)) < 1:
        return
    for spec in block_specs(options, patch_grid(cfg)):
        if spec.attention_dim % spec.heads:
            yield Problem(
                f"{spec.attention_dim} channels cannot be divided among {spec.heads} heads",
                "change MVIT.DIM_MUL or MVIT.HEAD_MUL",
                "MVIT.HEAD_MUL",
            )
    fixed_size = options.USE_ABS_POS and cfg.TEST.ENABLE
    if fixed_size and cfg.DATA.TEST_CROP_SIZE != cfg.DATA.TRAIN_CROP_SIZE:
        yield Problem(
            f"is {cfg.DATA.TEST_CROP_SIZE}, DATA.TRAIN_CROP_SIZE is {cfg.DATA.TRAIN_CROP_SIZE}",
            "absolute positions (MVIT.USE_ABS_POS) fit one size: set both to the same",
            "DATA.TEST_CROP_SIZE",
        )
    if cfg.STFM.ENABLE:
        yield from check_focus(cfg, options.PATCH_STRIDE[0])
