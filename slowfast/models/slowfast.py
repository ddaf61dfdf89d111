"""SlowFast (arXiv 1812.03982): a slow pathway, and a narrow one that sees every frame."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.clip_head import PathwayHead
from slowfast.layers.conv import conv3d, conv_norm
from slowfast.layers.residual import Pathways
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP, VideoModel
from slowfast.models.image_weights import IMAGE_SOURCE
from slowfast.models.residual import (
    R50,
    PathwayWidths,
    ResidualOptions,
    ResNetStem,
    check_residual,
    init_residual,
    read_head_options,
    read_residual_options,
    train_classifier_only,
)
from slowfast.models.residual_weights import residual_sources
from slowfast.models.spec import ModelSpec
from slowfast.utils.errors import Problem, UserError

SLOWFAST = register_section(
    Section(
        "SLOWFAST",
        "SlowFast",
        {
            "ALPHA": Key(8, "Frames of the fast pathway per frame of the slow one.", ge=1),
            "BETA_INV": Key(8, "Channels of the slow pathway per channel of the fast one.", ge=1),
            "FUSION_CONV_CHANNEL_RATIO": Key(
                2, "Channels that the slow pathway gets, per channel of the fast one.", ge=1
            ),
            "FUSION_KERNEL_SZ": Key(
                5, "Temporal kernel of the convolutions to the slow pathway.", ge=1
            ),
        },
        only_if={"MODEL.MODEL_NAME": "SlowFast"},
    )
)

# Temporal kernels of the stem and the stages, slow and fast.
_STEM = (1, 5)
_STAGES = ((1, 3), (1, 3), (3, 3), (3, 3))


def check_slowfast(cfg: CfgNode) -> Iterable[Problem]:
    """Problems of a configuration of SlowFast."""
    options = cfg.SLOWFAST
    yield from check_residual(cfg)
    if cfg.DATA.NUM_FRAMES % options.ALPHA:
        yield Problem(
            f"{cfg.DATA.NUM_FRAMES} frames are no multiple of SLOWFAST.ALPHA {options.ALPHA}",
            "change one of them",
            "DATA.NUM_FRAMES",
        )
    if cfg.RESNET.WIDTH_PER_GROUP < options.BETA_INV:
        yield Problem(
            f"{cfg.RESNET.WIDTH_PER_GROUP} / {options.BETA_INV} is no channel",
            "raise RESNET.WIDTH_PER_GROUP or lower SLOWFAST.BETA_INV",
            "SLOWFAST.BETA_INV",
        )
    elif cfg.RESNET.TRANS_FUNC == "bottleneck_transform":
        groups, width = cfg.RESNET.NUM_GROUPS, cfg.RESNET.WIDTH_PER_GROUP
        inner = [groups * width * 2**stage // options.BETA_INV for stage in range(4)]
        uneven = [channels for channels in inner if channels % groups]
        if uneven:
            yield Problem(
                f"{uneven[0]} channels of the fast pathway do not divide into {groups} groups",
                f"make RESNET.WIDTH_PER_GROUP a multiple of SLOWFAST.BETA_INV {options.BETA_INV}, "
                "or lower the number of groups",
                "RESNET.NUM_GROUPS",
            )
    if options.FUSION_KERNEL_SZ % 2 == 0:
        yield Problem(
            "an even kernel does not give one frame per frame of the slow pathway",
            "use an odd one",
            "SLOWFAST.FUSION_KERNEL_SZ",
        )


def slow_frames(num_frames: int, alpha: int) -> tuple[int, ...]:
    """Frames of the slow pathway: ``num_frames // alpha`` from the first to the last."""
    count = num_frames // alpha
    return tuple(torch.linspace(0, num_frames - 1, count, device="cpu").long().tolist())


class FastToSlow(nn.Module):
    """Appends to the channels of the slow pathway a strided convolution of the fast one."""

    def __init__(self, channels: int, ratio: int, kernel: int, alpha: int):
        super().__init__()
        self.conv_f2s = conv3d(channels, channels * ratio, (kernel, 1, 1), (alpha, 1, 1))
        self.bn = nn.BatchNorm3d(channels * ratio)

    def forward(self, clips: list[torch.Tensor]) -> list[torch.Tensor]:
        """Slow ``B C t H W`` and fast ``B D T H W`` -> slow with more channels, and fast."""
        slow, fast = clips
        lateral = F.relu(conv_norm(self.conv_f2s, self.bn, fast), inplace=True)
        return [torch.cat([slow, lateral], dim=1), fast]


def last_blocks(stage: Pathways) -> list[str]:
    """Names of the last block of both pathways of stage ``s5``."""
    names = [name for name, _ in stage.named_children()]
    return [[f"s5.{n}" for n in names if n.startswith(f"pathway{p}_")][-1] for p in (0, 1)]


@MODEL_REGISTRY.register("SlowFast")
class SlowFast(VideoModel):
    """Two pathways over one clip. The network takes the frames of the fast pathway and draws those
    of the slow one.

    Args:
        num_classes: outputs.
        num_frames, crop_size: size of the training clips; of larger frames the head classifies
            every part of this size. Clips of any multiple of ``alpha`` frames are accepted.
        alpha: frames of the fast pathway per frame of the slow one.
        beta_inv: channels of the slow pathway per channel of the fast one.
        fusion_ratio, fusion_kernel: channels per channel of the fast pathway, and temporal kernel,
            of the convolutions to the slow one.
        residual: blocks of both.
        dropout_rate, head_act, fc_init_std, whole_clip_head, detach_final_fc: as
            :class:`~.resnet.ResNet`.

    UserError if the frames are no multiple of ``alpha``.
    """

    spec = ModelSpec(
        sources=(*residual_sources("SlowFast"), IMAGE_SOURCE),
        classifier_prefixes=("head.projection.",),
        finetune_patterns=("s5.", "head."),
        check=check_slowfast,
        any_clip_size=True,
        cam_layers=lambda model: last_blocks(model.s5),
        variants={
            "slowfast_4x16_r50": {},
            "slowfast_8x8_r50": {"alpha": 4, "fusion_kernel": 7},
            "slowfast_8x8_r101": {
                "alpha": 4,
                "residual": ResidualOptions(depth=101, temporal_blocks=((3,), (4,), (23,), (3,))),
            },
            "slowfast_16x8_r101": {
                "num_frames": 64,
                "alpha": 4,
                "residual": ResidualOptions(depth=101),
            },
        },
        test_overrides=TINY_CLIP
        | {
            "MODEL.DROPOUT_RATE": 0.0,
            "RESNET.DEPTH": 18,
            "RESNET.WIDTH_PER_GROUP": 8,
            "SLOWFAST.ALPHA": 2,
            "SLOWFAST.BETA_INV": 4,
            "SLOWFAST.FUSION_KERNEL_SZ": 3,
        },
    )

    def __init__(
        self,
        *,
        num_classes: int = 400,
        num_frames: int = 32,
        crop_size: int = 224,
        alpha: int = 8,
        beta_inv: int = 8,
        fusion_ratio: int = 2,
        fusion_kernel: int = 5,
        residual: ResidualOptions = R50,
        dropout_rate: float = 0.5,
        head_act: str = "softmax",
        fc_init_std: float = 0.01,
        whole_clip_head: bool = False,
        detach_final_fc: bool = False,
    ):
        super().__init__()
        self.alpha = alpha
        self._check_frames(num_frames)
        self.num_frames, self.slow_frames = num_frames, slow_frames(num_frames, alpha)

        def fusion(channels: int) -> FastToSlow:
            return FastToSlow(channels, fusion_ratio, fusion_kernel, alpha)

        slow, fast = residual.width, residual.width // beta_inv
        stems = zip((slow, fast), _STEM)
        self.s1 = Pathways([{"stem": ResNetStem(width, k)} for width, k in stems])
        self.s1_fuse = fusion(fast)
        for stage, kernels in enumerate(_STAGES):
            inner = residual.groups * residual.width * 2**stage
            outputs = [4 * residual.width * 2**stage, 4 * residual.width * 2**stage // beta_inv]
            inputs = (slow + fast * fusion_ratio, fast)
            widths = zip(inputs, outputs, (inner, inner // beta_inv), ((k,) for k in kernels))
            pathways = [PathwayWidths(*pathway) for pathway in widths]
            self.add_module(f"s{stage + 2}", residual.stage(stage, pathways))
            slow, fast = outputs
            if stage < 3:
                self.add_module(f"s{stage + 2}_fuse", fusion(fast))
        self.num_features = slow + fast
        side = math.inf if whole_clip_head else max(1, crop_size // 32)
        self.head = PathwayHead(
            [slow, fast],
            [(math.inf, side, side)] * 2,  # parts of a longer clip have no common frames
            num_classes,
            dropout_rate=dropout_rate,
            activation=head_act,
        )
        init_residual(self, fc_init_std, residual.zero_norm, residual.zero_conv)
        if detach_final_fc:
            train_classifier_only(self)

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> SlowFast:
        """The network that a configuration describes, with random weights."""
        options = cfg.SLOWFAST
        return cls(
            alpha=options.ALPHA,
            beta_inv=options.BETA_INV,
            fusion_ratio=options.FUSION_CONV_CHANNEL_RATIO,
            fusion_kernel=options.FUSION_KERNEL_SZ,
            residual=replace(read_residual_options(cfg), stride_1x1=False),
            **read_head_options(cfg),
        )

    def _check_frames(self, num_frames: int) -> None:
        if num_frames % self.alpha:
            raise UserError(
                f"SlowFast takes a multiple of {self.alpha} frames, not {num_frames}",
                "change the number of frames or alpha",
                "DATA.NUM_FRAMES",
            )

    def pathways(self, video: torch.Tensor) -> list[torch.Tensor]:
        """``B 3 T H W`` -> the clips of the slow and of the fast pathway."""
        count = video.shape[2]
        self._check_frames(count)
        # Constants, so that torch.compile makes one graph.
        frames = self.slow_frames
        if count != self.num_frames:
            frames = slow_frames(count, self.alpha)
        return [torch.stack([video[:, :, frame] for frame in frames], dim=2), video]

    def pathway_maps(self, video: torch.Tensor) -> list[torch.Tensor]:
        """``B 3 T H W`` -> maps of both pathways before pooling, ``B C t h w``."""
        clips = self.s1_fuse(self.s1(self.pathways(video)))
        for stage in (2, 3, 4):
            clips = getattr(self, f"s{stage}_fuse")(getattr(self, f"s{stage}")(clips))
        return self.s5(clips)

    def forward_features(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> means of the maps of both pathways, ``B C``; of larger frames than those
        of the training the means of each part, ``B P C``."""
        return self.head.features(self.pathway_maps(video))
