"""ResNets over clips with one pathway: C2D, I3D, Slow, with or without non-local blocks.

arXiv 1711.07971 (C2D, I3D, non-local), 1812.03982 (Slow); names and arches as in PySlowFast.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F

from slowfast.config.node import CfgNode
from slowfast.layers.clip_head import PathwayHead
from slowfast.layers.residual import Pathways
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP, VideoModel
from slowfast.models.image_weights import IMAGE_SOURCE
from slowfast.models.residual import (
    R50,
    NonLocalOptions,
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


class Arch(NamedTuple):
    """Temporal kernels of the stem and of the stages (their blocks take them in turn), and whether
    max pooling halves the frames after the first stage."""

    stem: int
    stages: tuple[tuple[int, ...], ...]
    pools: bool = False


_FLAT = ((1,), (1,), (1,), (1,))
_I3D = ((3,), (3, 1), (3, 1), (1, 3))
ARCHES: Mapping[str, Arch] = {
    "2d": Arch(1, _FLAT),
    "c2d": Arch(1, _FLAT, pools=True),
    "slow_c2d": Arch(1, _FLAT),
    "i3d": Arch(5, _I3D, pools=True),
    "slow_i3d": Arch(5, _I3D),
    "slow": Arch(1, ((1,), (1,), (3,), (3,))),
}


def check_resnet(cfg: CfgNode) -> Iterable[Problem]:
    """Problems of a configuration of ResNet."""
    if cfg.MODEL.ARCH not in ARCHES:
        yield Problem(
            f"{cfg.MODEL.ARCH!r} is no kind of ResNet",
            f"choose one of {', '.join(ARCHES)}",
            "MODEL.ARCH",
        )
    yield from check_residual(cfg)


_NLN = ResidualOptions(
    non_local=NonLocalOptions(location=[[[]], [[1, 3]], [[1, 3, 5]], [[]]], kind="softmax")
)


@MODEL_REGISTRY.register("ResNet")
class ResNet(VideoModel):
    """A residual network with one pathway.

    Args:
        num_classes: outputs.
        num_frames, crop_size: size of the training clips, over which the head averages; of larger
            clips it classifies every part of this size.
        arch: temporal kernels: 2d, c2d, slow_c2d, i3d, slow_i3d or slow.
        residual: its blocks.
        dropout_rate: before the classifier.
        head_act: activation that the head averages over positions: softmax, sigmoid or none.
        fc_init_std: deviation of the initial weights of the classifier.
        whole_clip_head: the head averages over all of a clip, however large it is.
        detach_final_fc: only the classifier is trained.

    UserError for another arch.
    """

    spec = ModelSpec(
        sources=(*residual_sources("ResNet"), IMAGE_SOURCE),
        classifier_prefixes=("head.projection.",),
        finetune_patterns=("s5.", "head."),
        check=check_resnet,
        any_clip_size=True,
        variants={
            "slow_r50": {},
            "slow_4x16_r50": {"num_frames": 4},
            "c2d_r50": {"arch": "c2d"},
            "c2d_nopool_r50": {"arch": "slow_c2d"},
            "c2d_nln_r50": {"arch": "c2d", "residual": _NLN},
            "i3d_r50": {"arch": "i3d"},
            "i3d_nln_r50": {"arch": "i3d", "residual": _NLN},
            "i3d_r101": {
                "arch": "i3d",
                "residual": ResidualOptions(depth=101, temporal_blocks=((3,), (4,), (23,), (3,))),
            },
        },
        test_overrides=TINY_CLIP
        | {
            "MODEL.ARCH": "slow",
            "MODEL.DROPOUT_RATE": 0.0,
            "RESNET.DEPTH": 18,
            "RESNET.WIDTH_PER_GROUP": 8,
        },
    )

    def __init__(
        self,
        *,
        num_classes: int = 400,
        num_frames: int = 8,
        crop_size: int = 224,
        arch: str = "slow",
        residual: ResidualOptions = R50,
        dropout_rate: float = 0.5,
        head_act: str = "softmax",
        fc_init_std: float = 0.01,
        whole_clip_head: bool = False,
        detach_final_fc: bool = False,
    ):
        super().__init__()
        if arch not in ARCHES:
            raise UserError(f"there is no ResNet of arch {arch!r}", f"use {', '.join(ARCHES)}")
        kernels = ARCHES[arch]
        self.pools = kernels.pools
        width = residual.width
        self.s1 = Pathways([{"stem": ResNetStem(width, kernels.stem)}])
        channels = width
        for stage, temporal_kernels in enumerate(kernels.stages):
            out = 4 * width * 2**stage
            inner = residual.groups * width * 2**stage
            widths = PathwayWidths(channels, out, inner, temporal_kernels)
            self.add_module(f"s{stage + 2}", residual.stage(stage, [widths]))
            channels = out
        frames = max(1, num_frames // 2) if self.pools else num_frames
        self.num_features = channels
        side = max(1, crop_size // 32)
        self.head = PathwayHead(
            [channels],
            [(math.inf,) * 3 if whole_clip_head else (frames, side, side)],
            num_classes,
            dropout_rate=dropout_rate,
            activation=head_act,
        )
        init_residual(self, fc_init_std, residual.zero_norm, residual.zero_conv)
        if detach_final_fc:
            train_classifier_only(self)

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> ResNet:
        """The network that a configuration describes, with random weights."""
        return cls(
            arch=cfg.MODEL.ARCH, residual=read_residual_options(cfg), **read_head_options(cfg)
        )

    def feature_maps(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> maps before pooling, ``B C t h w``."""
        clips = self.s2(self.s1([video]))
        if self.pools:
            clips = [F.max_pool3d(x, (2, 1, 1)) for x in clips]
        (maps,) = self.s5(self.s4(self.s3(clips)))
        return maps

    def forward_features(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> mean of the maps, ``B C``; of larger clips than those of the training
        the mean of each part, ``B P C``."""
        return self.head.features([self.feature_maps(video)])
