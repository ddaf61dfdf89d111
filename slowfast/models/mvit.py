"""MViT v1 and v2 (arXiv 2104.11227, 2112.01526): fewer positions, more channels stage by stage."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.layers.checkpointing import checkpointed_blocks, run_checkpointed
from slowfast.layers.pooling_attention import PoolingBlock, PoolingSpec
from slowfast.layers.stfm import StfmBlock, StfmOptions, StfmShape
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP, init_transformer
from slowfast.models.looks.networks import trace_mvit
from slowfast.models.looks.trace import Trace
from slowfast.models.mvit_options import (
    MVIT_VARIANTS,
    MvitOptions,
    block_specs,
    first_stfm_block,
    patch_grid,
    read_mvit_options,
)
from slowfast.models.mvit_parts import (
    MvitHead,
    MvitTokens,
    resize_mvit_positions,
    undecayed_positions,
)
from slowfast.models.rev_mvit import ReversibleMViT
from slowfast.models.spec import ModelSpec, State, WeightSource
from slowfast.models.stfm_model import (
    STFM_PARTS,
    STFM_SOURCE,
    StfmModel,
    check_stfm,
    has_stfm,
    last_blocks_to_stfm,
    read_stfm_options,
)
from slowfast.models.vit import layer_of_block, resize_square_pos_embed
from slowfast.utils.errors import Problem

# -- weights ---------------------------------------------------------------------------------


def is_mvit(state: State) -> bool:
    """Whether a state dict is that of an MViT without STFM, as PySlowFast names its parameters
    (torchvision's MViT has other names)."""
    blocks = [name for name in state if name.startswith("blocks.")]
    if not blocks or "patch_embed.proj.weight" not in state or has_stfm(state):
        return False
    pooled = any(".attn.pool_" in name or ".attn.rel_pos_" in name for name in blocks)
    return pooled or "head.projection.weight" in state


def check_mvit(cfg: CfgNode) -> Iterable[Problem]:
    """Problems of a configuration of MViT."""
    if cfg.MVIT.REV.ENABLE:
        yield from ReversibleMViT.spec.check(cfg)
        return
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
            "change one of the two",
            "DATA.NUM_FRAMES",
        )
    sizes = read_mvit_options(cfg)
    grid = patch_grid(sizes, cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE)
    if min(grid) < 1:
        return
    for spec in block_specs(sizes, grid):
        if spec.attention_dim % spec.num_heads:
            yield Problem(
                f"{spec.attention_dim} channels cannot be divided among {spec.num_heads} heads",
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
        yield from check_stfm(cfg, options.PATCH_STRIDE[0])


@MODEL_REGISTRY.register("MViT")
class MViT(StfmModel, MvitTokens):
    """Both versions by their options; ``stfm`` replaces the last stage."""

    spec = ModelSpec(
        sources=(WeightSource("MViT", is_mvit, last_blocks_to_stfm, STFM_PARTS), STFM_SOURCE),
        resizers=(resize_mvit_positions, resize_square_pos_embed),
        initial_weights=lambda cfg: cfg.MVIT.PRETRAIN_NAME,
        weights_key="MVIT.PRETRAIN_NAME",
        no_weight_decay=undecayed_positions,
        layer_of=layer_of_block,
        check=check_mvit,
        variants=MVIT_VARIANTS,
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

    def __init__(
        self,
        options: MvitOptions | None = None,
        *,
        num_classes: int = 400,
        num_frames: int = 16,
        crop_size: int = 224,
        head_dropout: float = 0.5,
        stfm: StfmOptions | None = None,
        checkpointed_blocks: float = 0,
    ):
        super().__init__()
        options = options or MvitOptions()
        self.num_checkpointed = checkpointed_blocks
        self.build_tokens(options, patch_grid(options, num_frames, crop_size))
        specs = block_specs(options, self.grid)
        num_plain = first_stfm_block(specs, stfm) if stfm else len(specs)
        self.blocks = nn.ModuleList(PoolingBlock(spec) for spec in specs[:num_plain])
        dim = specs[-1].dim_out
        if stfm:
            stride_t, stride_s = num_frames // self.grid[0], crop_size // specs[num_plain].grid[1]
            shape = StfmShape(specs[num_plain - 1].dim_out, dim, crop_size, stride_t, stride_s)
            self.build_stfm(stfm, shape, [_stfm_block(dim, spec) for spec in specs[num_plain:]])
        else:
            self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pre_logits = nn.Identity()
        init_transformer(self, linear_bias=0.02, norm_bias=0.02)
        self.head = MvitHead(dim, num_classes, head_dropout, options.head_init_scale)

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> MViT | ReversibleMViT:
        """The network that a configuration describes, with random weights; the reversible one with
        MVIT.REV.ENABLE."""
        if cfg.MVIT.REV.ENABLE:
            return ReversibleMViT.from_cfg(cfg)
        model = cfg.MODEL
        (num_checkpointed,) = checkpointed_blocks(
            1,
            every_block=model.ACT_CHECKPOINT,
            per_stage=model.CHECKPOINT_NUM if model.USE_CHECKPOINT else (),
        )
        return cls(
            read_mvit_options(cfg),
            num_classes=model.NUM_CLASSES,
            num_frames=cfg.DATA.NUM_FRAMES,
            crop_size=cfg.DATA.TRAIN_CROP_SIZE,
            head_dropout=model.DROPOUT_RATE,
            stfm=read_stfm_options(cfg),
            checkpointed_blocks=num_checkpointed,
        )

    def features_and_losses(
        self, video: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """``B 3 T H W`` -> features ``B C`` and auxiliary losses by name."""
        x, grid = self.tokens_of(video)
        for number, block in enumerate(self.blocks):
            x = run_checkpointed([block], x, self.num_checkpointed - number, grid)
            grid = block.next_grid(grid)
        cls = self.options.cls_embed_on
        if self.stfm_options:
            x = (x[:, 1:] if cls else x).transpose(1, 2).unflatten(2, grid)
            return self.apply_stfm(x, video, self.num_checkpointed)
        if self.options.use_mean_pooling:
            return self.norm((x[:, 1:] if cls else x).mean(1)), {}
        x = self.norm(x)
        return (x[:, 0] if cls else x.mean(1)), {}

    def attention_map(self, trace: Trace, shape: tuple[int, ...]) -> torch.Tensor:
        return trace_mvit(trace, self, shape)


def _stfm_block(dim: int, spec: PoolingSpec) -> StfmBlock:
    """The block behind STFM that replaces the pooling block ``spec``."""
    return StfmBlock(dim, spec.num_heads, mlp_ratio=spec.mlp_ratio, drop_path=spec.drop_path)
