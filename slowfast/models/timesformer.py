"""TimeSformer (arXiv 2102.05095): a ViT whose attention is divided over time and space."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from einops import rearrange
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.attention import Attention, TransformerBlock
from slowfast.layers.checkpointing import checkpointed_blocks, run_checkpointed
from slowfast.layers.patch_embed import FramePatchEmbed
from slowfast.layers.positions import resize_pos_embed_nearest, resize_pos_embed_nearest_1d
from slowfast.layers.stfm import StfmBlock, StfmOptions, StfmShape
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP, VideoModel, init_transformer
from slowfast.models.looks.networks import trace_timesformer
from slowfast.models.looks.trace import Trace
from slowfast.models.spec import ModelSpec, State, WeightSource
from slowfast.models.stfm_model import (
    STFM_PARTS,
    STFM_SOURCE,
    StfmModel,
    check_stfm,
    has_stfm,
    last_blocks_to_stfm,
    read_stfm_options,
    stfm_insert_index,
)
from slowfast.models.vit import (
    VIT_KEYS,
    VIT_SOURCE,
    check_vit,
    init_from_scratch,
    layer_of_block,
    resize_square_pos_embed,
)
from slowfast.utils.errors import Problem

TIMESFORMER = register_section(
    Section(
        "TIMESFORMER",
        "TimeSformer",
        VIT_KEYS
        | {
            "ATTENTION_TYPE": Key(
                "divided_space_time",
                "divided_space_time: attention over time, then over space; joint_space_time: over "
                "both at once; space_only: within each frame.",
                choices=("divided_space_time", "joint_space_time", "space_only"),
            ),
            "DROP_PATH_RATE": Key(
                0.1, "Drop path rate of the last block, linear from 0.", ge=0.0, le=1.0
            ),
            "PRETRAINED_MODEL": Key(
                "",
                "Weights to start from: a path or a name below MODEL.PRETRAINED_DIR "
                "(ImageNet ViT of timm, or a TimeSformer), or empty.",
            ),
        },
        only_if={"MODEL.MODEL_NAME": "TimeSformer"},
    )
)


class DividedBlock(TransformerBlock):
    """Attention over the frames of each position, then over the positions of each frame, then MLP.

    Tokens are ``B 1+S*T C``: the class token, then positions with their frames (time fastest).
    """

    def __init__(self, dim: int, num_heads: int, **options: object):
        super().__init__(dim, num_heads, **options)
        self.temporal_norm1 = nn.LayerNorm(dim, eps=options.get("norm_eps", 1e-5))
        self.temporal_attn = Attention(dim, num_heads)
        self.temporal_fc = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, num_frames: int) -> torch.Tensor:
        """Tokens ``B 1+S*T C`` of clips of ``num_frames`` -> tokens ``B 1+S*T C``."""
        b, t = x.shape[0], num_frames
        cls, patches = x[:, :1], rearrange(x[:, 1:], "b (s t) c -> (b s) t c", t=t)
        over_time = self.temporal_attn(self.temporal_norm1(patches))
        patches = patches + self.temporal_fc(self.drop_path(over_time))
        # The class token takes part in every frame, and its results are averaged over frames.
        frames = rearrange(patches, "(b s) t c -> (b t) s c", b=b)
        frames = torch.cat([cls.expand(-1, t, -1).reshape(b * t, 1, -1), frames], dim=1)
        y = self.drop_path(self.attn(self.norm1(frames)))
        y = rearrange(y, "(b t) n c -> b n t c", b=b)
        cls = cls + y[:, :1].mean(2)
        patches = patches.unflatten(0, (b, -1)) + y[:, 1:]
        x = torch.cat([cls, patches.flatten(1, 2)], dim=1)
        return x + self.drop_path(self.mlp(self.norm2(x)))


def check_timesformer(cfg: CfgNode) -> Iterable[Problem]:
    """Problems of a configuration of TimeSformer."""
    section = cfg.TIMESFORMER
    yield from check_vit(cfg, "TIMESFORMER")
    stfm = read_stfm_options(cfg)
    if stfm is None:
        return
    yield from check_stfm(cfg, stride_t=1)
    last = stfm_insert_index(stfm, section.DEPTH)
    if not last < section.DEPTH - 1:
        yield Problem(
            f"{last} leaves no block of {section.DEPTH} after the module",
            "choose an earlier block",
            "STFM.INSERT_AFTER",
        )
    if section.ATTENTION_TYPE == "space_only":
        yield Problem(
            "STFM follows tokens over time",
            "choose an attention over time",
            "TIMESFORMER.ATTENTION_TYPE",
        )


# -- weights ---------------------------------------------------------------------------------


def is_timesformer(state: State) -> bool:
    """Whether a state dict is that of a TimeSformer with attention over time.

    Published names start with ``model.``; ours do not.
    """
    released = "model.blocks.0.attn.qkv.weight" in state
    return released or ("time_embed" in state and not has_stfm(state))


def from_timesformer(state: State, model: VideoModel) -> State:
    """Names without ``model.``; the last blocks initialise those behind STFM."""
    return last_blocks_to_stfm({n.removeprefix("model."): v for n, v in state.items()}, model)


def resize_time_embed(
    name: str, tensor: torch.Tensor, shape: tuple[int, ...]
) -> torch.Tensor | None:
    """``time_embed`` ``1 T C`` for another number of frames, nearest neighbour."""
    if name != "time_embed" or tensor.shape[2:] != shape[2:]:
        return None
    return resize_pos_embed_nearest_1d(tensor, shape[1])


@MODEL_REGISTRY.register("TimeSformer")
class TimeSformer(StfmModel):
    """Base, HR and L differ in frames and crop only; ``stfm`` replaces the last blocks.

    ``attention_type`` is ``divided_space_time``, ``joint_space_time`` or ``space_only``; ``init``
    is ``published`` or ``scratch`` (see ``TIMESFORMER.INIT``); ``stem`` is that of
    :class:`FramePatchEmbed`.
    """

    spec = ModelSpec(
        sources=(
            WeightSource("TimeSformer", is_timesformer, from_timesformer, STFM_PARTS),
            VIT_SOURCE,
            STFM_SOURCE,
        ),
        resizers=(resize_square_pos_embed, resize_time_embed),
        initial_weights=lambda cfg: cfg.TIMESFORMER.PRETRAINED_MODEL,
        weights_key="TIMESFORMER.PRETRAINED_MODEL",
        layer_of=layer_of_block,
        check=check_timesformer,
        variants={
            "timesformer_b": {},
            "timesformer_hr": {"num_frames": 16, "crop_size": 448},
            "timesformer_l": {"num_frames": 96},
            "timesformer_b_stfm": {
                "stfm": StfmOptions(num_tokens=64, insert_after=8, selection="straight_through")
            },
        },
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

    def __init__(
        self,
        *,
        num_classes: int = 400,
        num_frames: int = 8,
        crop_size: int = 224,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        attention_type: str = "divided_space_time",
        drop_path_rate: float = 0.1,
        init: str = "published",
        stem: str = "patch",
        stfm: StfmOptions | None = None,
        checkpointed_blocks: float = 0,
    ):
        super().__init__()
        self.attention_type = attention_type
        self.num_checkpointed = checkpointed_blocks
        self.patch_embed = FramePatchEmbed(embed_dim, patch_size, stem=stem)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        num_positions = (crop_size // patch_size) ** 2 + 1
        self.pos_embed = nn.Parameter(torch.zeros(1, num_positions, embed_dim))
        if attention_type != "space_only":
            self.time_embed = nn.Parameter(torch.zeros(1, num_frames, embed_dim))
        block = DividedBlock if attention_type == "divided_space_time" else TransformerBlock
        rates = torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()
        num_plain = stfm_insert_index(stfm, depth) + 1 if stfm else depth
        self.blocks = nn.ModuleList(
            block(embed_dim, num_heads, mlp_ratio=mlp_ratio, drop_path=rate, norm_eps=1e-6)
            for rate in rates[:num_plain]
        )
        if stfm:
            shape = StfmShape(embed_dim, embed_dim, crop_size, 1, patch_size)
            later = [
                StfmBlock(embed_dim, num_heads, mlp_ratio=mlp_ratio, drop_path=rate)
                for rate in rates[num_plain:]
            ]
            self.build_stfm(stfm, shape, later)
        else:
            self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.pre_logits = nn.Identity()
        self.head = nn.Linear(embed_dim, num_classes)
        self._init_weights()
        if init == "scratch":
            # Motion shows in a patch over time, wherever that patch is: low weight of space.
            init_from_scratch(self, getattr(self, "time_embed", None), spatial_scale=0.3)

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> TimeSformer:
        """The network that a configuration describes, with random weights."""
        model, section = cfg.MODEL, cfg.TIMESFORMER
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
            attention_type=section.ATTENTION_TYPE,
            drop_path_rate=section.DROP_PATH_RATE,
            init=section.INIT,
            stem=section.STEM,
            stfm=read_stfm_options(cfg),
            checkpointed_blocks=num_checkpointed,
        )

    def _init_weights(self) -> None:
        init_transformer(self)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        # Divided attention starts as attention over space: all temporal branches but the first
        # are initially zero.
        for block in self.blocks[1:]:
            if isinstance(block, DividedBlock):
                nn.init.zeros_(block.temporal_fc.weight)
                nn.init.zeros_(block.temporal_fc.bias)

    def _embed(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> tokens ``B 1+S*T C``, time fastest (space only: ``B*T 1+S C``)."""
        x = self.patch_embed(video)  # B T H W C
        pos = resize_pos_embed_nearest(self.pos_embed, x.shape[2], x.shape[3])
        x = x.flatten(2, 3) + pos[:, 1:]
        cls = self.cls_token + pos[:, :1]
        if self.attention_type == "space_only":
            x = rearrange(x, "b t s c -> (b t) s c")
        else:
            time = resize_pos_embed_nearest_1d(self.time_embed, x.shape[1])
            x = rearrange(x + time.unsqueeze(2), "b t s c -> b (s t) c")
        return torch.cat([cls.expand(x.shape[0], -1, -1), x], dim=1)

    def features_and_losses(
        self, video: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """``B 3 T H W`` -> features ``B D`` and auxiliary losses by name."""
        b, _, num_frames, height, _ = video.shape
        x = self._embed(video)
        extra = (num_frames,) if self.attention_type == "divided_space_time" else ()
        x = run_checkpointed(self.blocks, x, self.num_checkpointed, *extra)
        if self.stfm_options:
            rows = height // self.patch_embed.patch_size
            maps = rearrange(x[:, 1:], "b (h w t) c -> b c t h w", h=rows, t=num_frames)
            return self.apply_stfm(maps, video, self.num_checkpointed)
        if self.attention_type == "space_only":
            x = rearrange(x, "(b t) n c -> b t n c", b=b).mean(1)
        return self.norm(x)[:, 0], {}

    def attention_map(self, trace: Trace, shape: tuple[int, ...]) -> torch.Tensor:
        return trace_timesformer(trace, self, shape)
