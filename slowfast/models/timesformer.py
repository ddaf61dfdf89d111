"""TimeSformer (arXiv 2102.05095): a ViT whose attention is divided over time and space."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.attention import Attention, TransformerBlock
from slowfast.layers.checkpointing import recomputed_blocks, run_blocks
from slowfast.layers.patch_embed import FramePatchEmbed
from slowfast.layers.positions import resize_grid, resize_line
from slowfast.layers.stfm import FocusBlock, StfmShape
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP, init_transformer
from slowfast.models.focus import FocusedModel, check_focus, focus_after, hard_selection
from slowfast.models.spec import ModelSpec
from slowfast.models.vit import VIT_KEYS, check_vit, init_from_scratch
from slowfast.utils.errors import Problem

TIMESFORMER = register_section(
    Section(
        "TIMESFORMER",
        "TimeSformer",
        VIT_KEYS
        | {
            "ATTENTION_TYPE": Key(
                "divided_space_time",
                "Attention over time, then over space; jointly; or over space alone.",
                choices=("divided_space_time", "joint_space_time", "space_only"),
            ),
            "DROP_PATH_RATE": Key(
                0.1, "Drop path of the last block, linear from 0.", ge=0.0, le=1.0
            ),
            "PRETRAINED_MODEL": Key(
                "",
                "Weights to start from: a path or a name below MODEL.PRETRAINED_DIR "
                "(ImageNet ViT of timm, or a TimeSformer), or empty.",
            ),
        },
    )
)


class DividedBlock(TransformerBlock):
    """Attention over the frames of each place, then over the places of each frame, then MLP.

    Tokens are ``B 1+S*T C``: the class token, then places with their frames (time fastest).
    """

    def __init__(self, dim: int, heads: int, **options: object):
        super().__init__(dim, heads, **options)
        self.temporal_norm1 = nn.LayerNorm(dim, eps=options.get("norm_eps", 1e-5))
        self.temporal_attn = Attention(dim, heads)
        self.temporal_fc = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        b, _, c = x.shape
        cls, patches = x[:, :1], x[:, 1:].unflatten(1, (-1, frames))  # B S T C
        over_time = self.temporal_attn(self.temporal_norm1(patches.flatten(0, 1)))
        patches = patches + self.temporal_fc(self.drop_path(over_time)).view_as(patches)
        # The class token takes part in every frame; what the frames tell it is averaged.
        per_frame = patches.transpose(1, 2).flatten(0, 1)
        heads = cls.expand(-1, frames, -1).reshape(b * frames, 1, c)
        y = self.drop_path(self.attn(self.norm1(torch.cat([heads, per_frame], dim=1))))
        y = y.unflatten(0, (b, frames))
        cls = cls + y[:, :, 0].mean(1, keepdim=True)
        patches = patches + y[:, :, 1:].transpose(1, 2)
        x = torch.cat([cls, patches.flatten(1, 2)], dim=1)
        return x + self.drop_path(self.mlp(self.norm2(x)))


def check_timesformer(cfg: CfgNode) -> Iterable[Problem]:
    """Problems of a configuration of TimeSformer."""
    options = cfg.TIMESFORMER
    yield from check_vit(cfg, "TIMESFORMER")
    if cfg.STFM.ENABLE:
        yield from check_focus(cfg, stride_t=1)
        last = focus_after(cfg, options.DEPTH)
        if not last < options.DEPTH - 1:
            yield Problem(
                f"{last} leaves no block of {options.DEPTH} after the module",
                "choose an earlier block",
                "STFM.INSERT_AFTER",
            )
        if options.ATTENTION_TYPE == "space_only":
            yield Problem(
                "STFM follows tokens over time",
                "choose an attention over time",
                "TIMESFORMER.ATTENTION_TYPE",
            )


@MODEL_REGISTRY.register("TimeSformer")
class TimeSformer(FocusedModel):
    """Base, HR and L differ in frames and crop only; ``STFM.ENABLE`` replaces the last blocks."""

    spec = ModelSpec(
        initial_weights=lambda cfg: cfg.TIMESFORMER.PRETRAINED_MODEL,
        unused_parameters=hard_selection,
        check=check_timesformer,
        test_overrides=TINY_CLIP
        | {
            "TIMESFORMER.PATCH_SIZE": 8,
            "TIMESFORMER.EMBED_DIM": 32,
            "TIMESFORMER.DEPTH": 3,
            "TIMESFORMER.NUM_HEADS": 2,
            "TIMESFORMER.DROP_PATH_RATE": 0.0,
            "STFM.NUM_TOKENS": 3,
            "STFM.INSERT_AFTER": 1,
        },
    )

    def __init__(self, cfg: CfgNode):
        super().__init__()
        options = cfg.TIMESFORMER
        dim, depth, frames = options.EMBED_DIM, options.DEPTH, cfg.DATA.NUM_FRAMES
        self.attention_type = options.ATTENTION_TYPE
        self.recomputed = recomputed_blocks(cfg.MODEL, 1)[0]
        side = cfg.DATA.TRAIN_CROP_SIZE // options.PATCH_SIZE
        self.patch_embed = FramePatchEmbed(dim, options.PATCH_SIZE)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, side**2 + 1, dim))
        if self.attention_type != "space_only":
            self.time_embed = nn.Parameter(torch.zeros(1, frames, dim))
        divided = self.attention_type == "divided_space_time"
        block = DividedBlock if divided else TransformerBlock
        rates = torch.linspace(0, options.DROP_PATH_RATE, depth).tolist()
        self.with_stfm = cfg.STFM.ENABLE
        plain = focus_after(cfg, depth) + 1 if self.with_stfm else depth
        heads, ratio = options.NUM_HEADS, options.MLP_RATIO
        self.blocks = nn.ModuleList(
            block(dim, heads, mlp_ratio=ratio, drop_path=rate, norm_eps=1e-6)
            for rate in rates[:plain]
        )
        if self.with_stfm:
            shape = StfmShape(dim, dim, cfg.DATA.TRAIN_CROP_SIZE, 1, options.PATCH_SIZE)
            later = [
                FocusBlock(dim, heads, mlp_ratio=ratio, drop_path=rate) for rate in rates[plain:]
            ]
            self.build_focus(cfg, shape, later)
        else:
            self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pre_logits = nn.Identity()
        self.head = nn.Linear(dim, cfg.MODEL.NUM_CLASSES)
        self._initialise()
        if options.INIT == "scratch":
            # Motion shows in a patch over time, wherever that is: places weigh little.
            init_from_scratch(self, getattr(self, "time_embed", None), space=0.3)

    def _initialise(self) -> None:
        init_transformer(self)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        # Divided attention begins as attention over space: all but the first temporal branch
        # add nothing.
        for block in self.blocks[1:]:
            if isinstance(block, DividedBlock):
                nn.init.zeros_(block.temporal_fc.weight)
                nn.init.zeros_(block.temporal_fc.bias)

    def _tokens(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> tokens ``B 1+S*T C``, time fastest (space only: ``B*T 1+S C``)."""
        x = self.patch_embed(video)  # B T H W C
        pos = resize_grid(self.pos_embed, x.shape[2], x.shape[3])
        x = x.flatten(2, 3) + pos[:, 1:]
        cls = self.cls_token + pos[:, :1]
        if self.attention_type == "space_only":
            x = x.flatten(0, 1)
        else:
            time = resize_line(self.time_embed, x.shape[1])
            x = (x + time.unsqueeze(2)).transpose(1, 2).flatten(1, 2)
        return torch.cat([cls.expand(x.shape[0], -1, -1), x], dim=1)

    def features_and_losses(
        self, video: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        b, _, frames = video.shape[:3]
        x = self._tokens(video)
        extra = (frames,) if self.attention_type == "divided_space_time" else ()
        x = run_blocks(self.blocks, x, self.recomputed, *extra)
        if self.with_stfm:
            height = video.shape[3] // self.patch_embed.proj.kernel_size[0]
            patches = x[:, 1:].unflatten(1, (height, -1, frames))  # B H W T C
            return self.focus(patches.permute(0, 4, 3, 1, 2), video, self.recomputed)
        if self.attention_type == "space_only":
            x = x.unflatten(0, (b, frames)).mean(1)
        return self.norm(x)[:, 0], {}
