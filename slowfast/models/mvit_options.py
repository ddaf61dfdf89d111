"""MViT's options: keys, sizes of the blocks, published variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.pooling_attention import Grid, PoolingSpec
from slowfast.layers.stfm import StfmOptions

_MODES = ("conv", "conv_unshared", "avg", "max")

_MODELS = {"MODEL.MODEL_NAME": ("MViT", "ReversibleMViT")}

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
            "PATCH_KERNEL": Key(
                [3, 7, 7], "Kernel of the patch embedding.", item=int, min_length=2, ge=1
            ),
            "PATCH_STRIDE": Key(
                [2, 4, 4], "Stride of the patch embedding.", item=int, min_length=2, ge=1
            ),
            "PATCH_PADDING": Key(
                [2, 4, 4], "Padding of the patch embedding.", item=int, min_length=2, ge=0
            ),
            "EMBED_DIM": Key(96, "Channels of the first stage.", ge=1),
            "NUM_HEADS": Key(1, "Heads of the first stage.", ge=1),
            "MLP_RATIO": Key(4.0, "Width of the MLPs relative to the channels.", gt=0.0),
            "QKV_BIAS": Key(True, "Bias of queries, keys and values."),
            "DROPPATH_RATE": Key(
                0.1, "Drop path rate of the last block, linear from 0.", ge=0.0, le=1.0
            ),
            "DROPOUT_RATE": Key(0.0, "Dropout after embedding and projections.", ge=0.0, le=1.0),
            "LAYER_SCALE_INIT_VALUE": Key(
                0.0, "Initial scale of each branch (layer scale); 0: none.", ge=0.0
            ),
            "DEPTH": Key(16, "Number of blocks.", ge=1),
            "NORM": Key("layernorm", "Normalisation.", choices=("layernorm",)),
            "DIM_MUL": Key([], "[block, factor]: factors of the channels."),
            "HEAD_MUL": Key([], "[block, factor]: factors of the heads."),
            "DIM_MUL_IN_ATT": Key(
                False, "Change the channels in the attention (v2), not in the MLP before it (v1)."
            ),
            "POOL_Q_STRIDE": Key([], "[block, t, h, w]: stride of the queries."),
            "POOL_KV_STRIDE": Key([], "[block, t, h, w]: stride of keys and values."),
            "POOL_KV_STRIDE_ADAPTIVE": Key(
                None,
                "Stride of keys and values of the first block; query strides divide it later on.",
                type=list,
                item=int,
                min_length=2,
                ge=1,
                optional=True,
            ),
            "POOL_KVQ_KERNEL": Key(
                None,
                "Kernel of all poolings; None: stride + 1.",
                type=list,
                item=int,
                min_length=2,
                ge=1,
                optional=True,
            ),
            "USE_ABS_POS": Key(True, "Absolute position embedding."),
            "SEP_POS_EMBED": Key(False, "Separate position embeddings for space and time."),
            "USE_FIXED_SINCOS_POS": Key(
                False, "Fixed sines and cosines instead of a learnt position embedding."
            ),
            "REL_POS_SPATIAL": Key(False, "Relative positions in space."),
            "REL_POS_TEMPORAL": Key(False, "Relative positions in time."),
            "REL_POS_ZERO_INIT": Key(False, "Initialise relative positions with zero."),
            "RESIDUAL_POOLING": Key(
                False, "Add the pooled queries to the result of the attention."
            ),
            "ZERO_DECAY_POS_CLS": Key(True, "No weight decay for positions and class token."),
            "NORM_STEM": Key(False, "Normalise the tokens before the first block."),
            "HEAD_INIT_SCALE": Key(1.0, "Factor of the head's initial weights.", gt=0.0),
            "USE_MEAN_POOLING": Key(False, "Mean over positions instead of the class token."),
            "PRETRAIN_NAME": Key(
                "", "Weights to start from: a path or a name below MODEL.PRETRAINED_DIR, or empty."
            ),
        },
        only_if=_MODELS,
    )
)

REV = register_section(
    Section(
        "MVIT.REV",
        "Reversible MViT",
        {
            "ENABLE": Key(
                False,
                "Reversible blocks (arXiv 2302.04869): training keeps the activations of "
                "MVIT.REV.BUFFER_LAYERS only (not with TRAIN.COMPILE, which keeps all).",
            ),
            "BUFFER_LAYERS": Key(
                [], "Blocks that change grid or width; all others are reversible.", item=int, ge=0
            ),
            "PRE_Q_FUSION": Key(
                "avg",
                "How these blocks fuse the two streams that enter: add, avg, max, min, concat, "
                "concat_linear_<factor>_<dropout>, ln+concat_linear_<factor>_<dropout>.",
            ),
            "RESPATH_FUSE": Key(
                "concat", "How the two streams are fused at the end; as MVIT.REV.PRE_Q_FUSION."
            ),
            "RES_PATH": Key(
                "conv",
                "Pooling of the skip path of these blocks: by the convolution of the queries.",
                choices=("conv",),
            ),
        },
        only_if=_MODELS | {"MVIT.REV.ENABLE": True},
    )
)


@dataclass(frozen=True)
class MvitOptions:
    """The keys of the section ``MVIT`` in lower case, explained there (``--explain MVIT.MODE``)."""

    mode: str = "conv"
    pool_first: bool = False
    separate_qkv: bool = False
    cls_embed_on: bool = True
    patch_2d: bool = False
    patch_kernel: Sequence[int] = (3, 7, 7)
    patch_stride: Sequence[int] = (2, 4, 4)
    patch_padding: Sequence[int] = (2, 4, 4)
    embed_dim: int = 96
    num_heads: int = 1
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    droppath_rate: float = 0.1
    dropout_rate: float = 0.0
    layer_scale_init_value: float = 0.0
    depth: int = 16
    dim_mul: Sequence[Sequence[float]] = ()
    head_mul: Sequence[Sequence[float]] = ()
    dim_mul_in_att: bool = False
    pool_q_stride: Sequence[Sequence[int]] = ()
    pool_kv_stride: Sequence[Sequence[int]] = ()
    pool_kv_stride_adaptive: Sequence[int] | None = None
    pool_kvq_kernel: Sequence[int] | None = None
    use_abs_pos: bool = True
    sep_pos_embed: bool = False
    use_fixed_sincos_pos: bool = False
    rel_pos_spatial: bool = False
    rel_pos_temporal: bool = False
    rel_pos_zero_init: bool = False
    residual_pooling: bool = False
    zero_decay_pos_cls: bool = True
    norm_stem: bool = False
    head_init_scale: float = 1.0
    use_mean_pooling: bool = False


def read_mvit_options(cfg: CfgNode) -> MvitOptions:
    """The section MVIT as options."""
    return MvitOptions(**{f.name: cfg.MVIT[f.name.upper()] for f in fields(MvitOptions)})


def round_width(width: int, factor: float, divisor: int = 1) -> int:
    """``width * factor`` at the nearest multiple of ``divisor``, not below nine tenths of it."""
    if not factor:
        return width
    exact = width * factor
    rounded = max(divisor, int(exact + divisor / 2) // divisor * divisor)
    return int(rounded + divisor if rounded < 0.9 * exact else rounded)


def _per_block(rows: Sequence[Sequence[float]], length: int, default: object) -> list:
    """Rows ``[block, value...]`` -> one entry per block: the value, or a tuple of several."""
    values = [default] * length
    for number, *rest in rows:
        values[int(number)] = rest[0] if len(rest) == 1 else tuple(int(r) for r in rest)
    return values


def _kernels(options: MvitOptions, strides: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Pooling kernel of each block; empty where it has no stride."""
    fixed = options.pool_kvq_kernel
    if fixed is not None:
        return [tuple(fixed) if stride else () for stride in strides]
    return [tuple(s + 1 if s > 1 else s for s in stride) for stride in strides]


def _kv_strides(options: MvitOptions, stride_q: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Stride of keys and values of each block."""
    if options.pool_kv_stride_adaptive is None:
        return _per_block(options.pool_kv_stride, options.depth, ())
    current, strides = tuple(options.pool_kv_stride_adaptive), []
    for stride in stride_q:
        if stride:
            current = tuple(max(kv // q, 1) for kv, q in zip(current, stride))
        strides.append(current)
    return strides


def block_specs(options: MvitOptions, grid: Grid) -> list[PoolingSpec]:
    """Sizes of each block for tokens of ``grid`` (PySlowFast's rules).

    MViT-B 16x4 (variant ``mvit_b_16x4``) has 16 blocks and 8 x 56 x 56 patches of 96 channels.
    ``dim_mul = head_mul = [[1, 2], [3, 2], [14, 2]]`` doubles channels and heads,
    ``pool_q_stride = [[1, 1, 2, 2], [3, 1, 2, 2], [14, 1, 2, 2]]`` halves the grid at the same
    blocks, and ``pool_kv_stride_adaptive = [1, 8, 8]`` is halved with it, so that keys and values
    have 8 x 7 x 7 positions everywhere. In v1 the MLP before a stage widens the tokens::

        block   heads   channels     grid that enters   query stride   key, value stride
        0       1       96 -> 192    8 x 56 x 56        -              1, 8, 8
        1       2       192 -> 192   8 x 56 x 56        1, 2, 2        1, 4, 4
        2       2       192 -> 384   8 x 28 x 28        -              1, 4, 4
        3       4       384 -> 384   8 x 28 x 28        1, 2, 2        1, 2, 2
        4-12    4       384 -> 384   8 x 14 x 14        -              1, 2, 2
        13      4       384 -> 768   8 x 14 x 14        -              1, 2, 2
        14      8       768 -> 768   8 x 14 x 14        1, 2, 2        1, 1, 1
        15      8       768 -> 768   8 x 7 x 7          -              1, 1, 1
    """
    depth = options.depth
    dim_mul = _per_block(options.dim_mul, depth + 1, 1.0)
    head_mul = _per_block(options.head_mul, depth + 1, 1.0)
    stride_q = _per_block(options.pool_q_stride, depth, ())
    stride_kv = _kv_strides(options, stride_q)
    kernel_q, kernel_kv = _kernels(options, stride_q), _kernels(options, stride_kv)
    rates = torch.linspace(0, options.droppath_rate, depth, device="cpu").tolist()
    dim, heads = options.embed_dim, options.num_heads
    specs = []
    for number in range(depth):
        heads = round_width(heads, head_mul[number])
        # v2 multiplies in the attention of the block itself, v1 in the MLP of the one before.
        at = number if options.dim_mul_in_att else number + 1
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
                mode=options.mode,
                class_token=options.cls_embed_on,
                pool_first=options.pool_first,
                separate_qkv=options.separate_qkv,
                qkv_bias=options.qkv_bias,
                residual_pooling=options.residual_pooling,
                rel_pos_spatial=options.rel_pos_spatial,
                rel_pos_temporal=options.rel_pos_temporal,
                rel_pos_zero_init=options.rel_pos_zero_init,
                widen_in_attention=options.dim_mul_in_att,
                mlp_ratio=options.mlp_ratio,
                drop=options.dropout_rate,
                drop_path=rates[number],
                layer_scale=options.layer_scale_init_value,
            )
        )
        if stride_q[number]:
            grid = tuple(size // stride for size, stride in zip(grid, stride_q[number]))
        dim = dim_out
    return specs


def patch_grid(options: MvitOptions, num_frames: int, crop_size: int) -> Grid:
    """Positions ``T H W`` of the first block, by integer division as published."""
    stride = options.patch_stride
    if options.patch_2d:
        stride = [1, *stride][-3:]
        return (1, crop_size // stride[1], crop_size // stride[2])
    return (num_frames // stride[0], crop_size // stride[1], crop_size // stride[2])


def first_stfm_block(specs: list[PoolingSpec], stfm: StfmOptions) -> int:
    """Index of the first block that STFM replaces: of the last stage, or after INSERT_AFTER."""
    if stfm.insert_after >= 0:
        return stfm.insert_after + 1
    strided = [n for n, spec in enumerate(specs) if max(spec.stride_q, default=1) > 1]
    return strided[-1] if strided else len(specs) * 3 // 4


# -- published sizes -------------------------------------------------------------------------


def _stages(*first: int) -> dict[str, Any]:
    """Stages that start at the blocks ``first``: twice the channels and heads, half the grid."""
    doubled = tuple((block, 2.0) for block in first)
    return {
        "dim_mul": doubled,
        "head_mul": doubled,
        "pool_q_stride": tuple((block, 1, 2, 2) for block in first),
        "pool_kv_stride_adaptive": (1, 8, 8),
        "patch_padding": (1, 3, 3),
        "zero_decay_pos_cls": False,
    }


def _v2(depth: int, *first: int, **options: Any) -> MvitOptions:
    """Version 2: relative positions, and queries pooled (stride 1) in every block."""
    strides = tuple((n, 1, 2, 2) if n in first else (n, 1, 1, 1) for n in range(depth))
    return MvitOptions(
        **_stages(*first)
        | {
            "depth": depth,
            "pool_q_stride": strides,
            "pool_kvq_kernel": (3, 3, 3),
            "dim_mul_in_att": True,
            "use_abs_pos": False,
            "rel_pos_spatial": True,
            "rel_pos_temporal": True,
            "residual_pooling": True,
        }
        | options
    )


_V1_B16 = MvitOptions(
    **_stages(1, 3, 14), sep_pos_embed=True, droppath_rate=0.2, pool_kvq_kernel=(3, 3, 3)
)
_V1_B32 = MvitOptions(**_stages(2, 5, 21), sep_pos_embed=True, droppath_rate=0.3, depth=24)
_V2_S = _v2(16, 1, 3, 14, droppath_rate=0.2)
_V2_B = _v2(24, 2, 5, 21, droppath_rate=0.3)
_V2_L = _v2(48, 2, 8, 44, droppath_rate=0.75, embed_dim=144, num_heads=2)
_STFM_S = StfmOptions(num_tokens=16, selection="straight_through")
MVIT_VARIANTS = {
    "mvit_b_16x4": {"options": _V1_B16, "num_frames": 16},
    "mvit_b_32x3": {"options": _V1_B32, "num_frames": 32},
    "mvitv2_s": {"options": _V2_S, "num_frames": 16},
    "mvitv2_b": {"options": _V2_B, "num_frames": 32},
    "mvitv2_l": {"options": _V2_L, "num_frames": 40, "crop_size": 312},
    "mvitv2_s_stfm": {"options": _V2_S, "num_frames": 16, "stfm": _STFM_S},
    "mvitv2_b_stfm": {"options": _V2_B, "num_frames": 32, "stfm": replace(_STFM_S, num_tokens=64)},
}
