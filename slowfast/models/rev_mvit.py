"""Reversible MViT and ViT (arXiv 2302.04869): activations are kept at the stages' ends only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.layers.pooling_attention import Grid, PoolingSpec
from slowfast.layers.reversible import (
    ReversibleBlock,
    StageTransition,
    TwoStreamFusion,
    run_reversible,
)
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP, init_transformer
from slowfast.models.looks.networks import trace_reversible
from slowfast.models.looks.trace import Trace
from slowfast.models.mvit_options import MvitOptions, block_specs, patch_grid, read_mvit_options
from slowfast.models.mvit_parts import (
    MvitHead,
    MvitTokens,
    resize_mvit_positions,
    undecayed_positions,
)
from slowfast.models.spec import ModelSpec, State, WeightSource
from slowfast.models.vit import resize_square_pos_embed
from slowfast.utils.errors import Problem, UserError
from slowfast.utils.logging import get_logger

logger = get_logger(__name__)


@dataclass(frozen=True)
class RevOptions:
    """The keys of the section ``MVIT.REV`` in lower case, explained there."""

    buffer_layers: Sequence[int] = ()
    pre_q_fusion: str = "avg"
    respath_fuse: str = "concat"


def is_reversible(state: State) -> bool:
    """Whether a state dict is that of a reversible MViT."""
    return any(name.startswith("rev_backbone.layers.") for name in state)


def layer_of(model: ReversibleMViT, name: str) -> int:
    """Layer of a parameter: 0 before the blocks, then one per block, then the rest."""
    if name.startswith(("pos_embed", "patch_embed")):
        return 0
    if name.startswith("rev_backbone.layers."):
        return int(name.split(".")[2]) + 1
    return len(model.rev_backbone.layers) + 1


def check_reversible(cfg: CfgNode) -> Iterable[Problem]:
    """Problems of a configuration of a reversible MViT."""
    if cfg.STFM.ENABLE:
        yield Problem("STFM has no reversible form", "set one of them False", "MVIT.REV.ENABLE")
    for key in ("PRE_Q_FUSION", "RESPATH_FUSE"):
        try:
            TwoStreamFusion(cfg.MVIT.REV[key], 8)
        except UserError as error:
            (problem,) = error.problems
            yield Problem(problem.message, problem.remedy, f"MVIT.REV.{key}")
    options = read_mvit_options(cfg)
    grid = patch_grid(options, cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE)
    if min(grid) < 1:
        return
    changing = [n for n, spec in enumerate(_specs(options, grid)) if _changes(spec)]
    missing = sorted(set(changing) - set(cfg.MVIT.REV.BUFFER_LAYERS))
    if missing:
        yield Problem(
            f"block {', '.join(map(str, missing))} changes grid or width, which a reversible block "
            "cannot",
            f"set MVIT.REV.BUFFER_LAYERS {changing}",
            "MVIT.REV.BUFFER_LAYERS",
        )
    if max(cfg.MVIT.REV.BUFFER_LAYERS, default=0) >= options.depth:
        yield Problem(
            f"the last block is {options.depth - 1}", "see MVIT.DEPTH", "MVIT.REV.BUFFER_LAYERS"
        )


def _specs(options: MvitOptions, grid: Grid) -> list[PoolingSpec]:
    """Sizes of the blocks: the attention changes the width, as in MViTv2."""
    return block_specs(replace(options, dim_mul_in_att=True, cls_embed_on=False), grid)


def _changes(spec: PoolingSpec) -> bool:
    return spec.dim != spec.dim_out or max(spec.stride_q, default=1) > 1


class _Backbone(nn.Module):
    """The blocks, under their published names."""

    def __init__(self, layers: Iterable[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)


@MODEL_REGISTRY.register("ReversibleMViT")
class ReversibleMViT(MvitTokens):
    """MViT (``MODEL.MODEL_NAME MViT``) with ``MVIT.REV.ENABLE``.

    A block of ``rev.buffer_layers`` changes grid and width; runs of blocks between them are
    reversible. Without these blocks it is a reversible ViT. There is no class token.
    """

    stored_activations = False  # keep all activations, to compare with

    spec = ModelSpec(
        sources=(WeightSource("reversible MViT", is_reversible),),
        resizers=(resize_mvit_positions, resize_square_pos_embed),
        initial_weights=lambda cfg: cfg.MVIT.PRETRAIN_NAME,
        weights_key="MVIT.PRETRAIN_NAME",
        no_weight_decay=undecayed_positions,
        layer_of=layer_of,
        reads_all_parameters=lambda model: True,
        check=check_reversible,
        test_overrides=TINY_CLIP
        | {
            "MVIT.REV.ENABLE": True,
            "MVIT.REV.BUFFER_LAYERS": [1],
            "MVIT.DEPTH": 4,
            "MVIT.EMBED_DIM": 16,
            "MVIT.DIM_MUL": [[1, 2.0]],
            "MVIT.HEAD_MUL": [[1, 2.0]],
            "MVIT.POOL_Q_STRIDE": [[1, 1, 2, 2]],
            "MVIT.POOL_KV_STRIDE_ADAPTIVE": [1, 2, 2],
            "MVIT.POOL_KVQ_KERNEL": [3, 3, 3],
            "MVIT.PATCH_PADDING": [1, 3, 3],
            "MVIT.CLS_EMBED_ON": False,
            "MVIT.DROPPATH_RATE": 0.0,
            "MODEL.DROPOUT_RATE": 0.0,
        },
    )

    def __init__(
        self,
        options: MvitOptions | None = None,
        rev: RevOptions | None = None,
        *,
        num_classes: int = 400,
        num_frames: int = 16,
        crop_size: int = 224,
        head_dropout: float = 0.5,
    ):
        super().__init__()
        options = replace(options or MvitOptions(), cls_embed_on=False)
        rev = rev or RevOptions()
        self.build_tokens(options, patch_grid(options, num_frames, crop_size))
        specs = _specs(options, self.grid)
        self.rev_backbone = _Backbone(
            StageTransition(spec, rev.pre_q_fusion)
            if number in rev.buffer_layers
            else ReversibleBlock(spec)
            for number, spec in enumerate(specs)
        )
        self.drop = nn.Dropout(options.dropout_rate)
        dim = specs[-1].dim_out
        self.fuse = TwoStreamFusion(rev.respath_fuse, 2 * dim)
        dim = 2 * dim if self.fuse.doubles else dim
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        init_transformer(self, linear_bias=0.02, norm_bias=0.02)
        self.head = MvitHead(dim, num_classes, head_dropout, options.head_init_scale)

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> ReversibleMViT:
        """The network that a configuration describes, with random weights."""
        if cfg.MVIT.CLS_EMBED_ON:
            logger.warning("MVIT.CLS_EMBED_ON: a reversible MViT has no class token; none is used")
        if cfg.MODEL.ACT_CHECKPOINT or cfg.MODEL.USE_CHECKPOINT:
            logger.warning(
                "MODEL.ACT_CHECKPOINT and MODEL.USE_CHECKPOINT have no effect: reversible blocks "
                "store no activations"
            )
        rev = cfg.MVIT.REV
        return cls(
            read_mvit_options(cfg),
            RevOptions(tuple(rev.BUFFER_LAYERS), rev.PRE_Q_FUSION, rev.RESPATH_FUSE),
            num_classes=cfg.MODEL.NUM_CLASSES,
            num_frames=cfg.DATA.NUM_FRAMES,
            crop_size=cfg.DATA.TRAIN_CROP_SIZE,
            head_dropout=cfg.MODEL.DROPOUT_RATE,
        )

    def forward_features(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> features ``B C``."""
        x, grid = self.tokens_of(video)
        run: list[ReversibleBlock] = []
        for block in self.rev_backbone.layers:
            if block.is_reversible:
                run.append(block)
                continue
            x, grid = block(self._pair(run, x, grid), grid)
            run = []
        x = self.drop(self._pair(run, x, grid))
        if self.options.use_mean_pooling:
            return self.norm(self.fuse(x).mean(1))
        # A fusion to the width of one stream comes before the norm, which has that width.
        x = self.fuse(self.norm(x)) if self.fuse.doubles else self.norm(self.fuse(x))
        return x.mean(1)

    def _pair(self, run: Sequence[ReversibleBlock], x: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Tokens ``B N C`` -> the pair ``B N 2C`` behind a run of reversible blocks."""
        if not run:
            return torch.cat([x, x], dim=-1)
        return run_reversible(run, x, grid, self.stored_activations)

    def attention_map(self, trace: Trace, shape: tuple[int, ...]) -> torch.Tensor:
        return trace_reversible(trace, self, shape)
