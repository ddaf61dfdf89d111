"""X3D (arXiv 2004.04730): narrow networks of depthwise convolutions, expanded along every axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.clip_head import ClipClassifier, features_of, pool_windows
from slowfast.layers.conv import conv3d, conv_norm
from slowfast.layers.residual import Branch, Pathways, ResBlock
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP, VideoModel
from slowfast.models.residual import (
    init_residual,
    read_checkpointed,
    read_head_options,
    train_classifier_only,
)
from slowfast.models.residual_weights import residual_sources
from slowfast.models.spec import ModelSpec
from slowfast.utils.errors import Problem

X3D_SECTION = register_section(
    Section(
        "X3D",
        "X3D",
        {
            "WIDTH_FACTOR": Key(1.0, "Channels relative to DIM_C1 and its doublings.", gt=0.0),
            "DEPTH_FACTOR": Key(1.0, "Blocks relative to 1, 2, 5, 3; rounded up.", gt=0.0),
            "BOTTLENECK_FACTOR": Key(
                1.0, "Inner channels of a block relative to its outputs.", gt=0.0
            ),
            "DIM_C1": Key(12, "Channels of the stem before WIDTH_FACTOR.", ge=1),
            "DIM_C5": Key(2048, "Channels of the features before the classifier.", ge=1),
            "SCALE_RES2": Key(False, "The first stage has twice the channels of the stem."),
            "BN_LIN5": Key(False, "Normalise the features before the classifier."),
            "CHANNELWISE_3x3x3": Key(
                True, "The 3x3x3 convolutions are depthwise; otherwise they mix all channels."
            ),
        },
        only_if={"MODEL.MODEL_NAME": "X3D"},
    )
)

_BLOCKS = (1, 2, 5, 3)
_SQUEEZE = 0.0625  # width of the squeeze-excitation relative to what it excites


def round_width(width: float, factor: float, divisor: int = 8) -> int:
    """``width * factor`` as a multiple of ``divisor``, not below it, nor below 90 %."""
    scaled = width * factor
    rounded = max(divisor, int(scaled + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * scaled else rounded


def check_x3d(cfg: CfgNode) -> Iterable[Problem]:
    """Problems of a configuration of X3D."""
    if any(places for stage in cfg.NONLOCAL.LOCATION for places in stage):
        yield Problem("X3D has no non-local blocks", "remove the line", "NONLOCAL.LOCATION")


class SqueezeExcitation(nn.Module):
    """Factors between 0 and 1 for the channels, from their means (arXiv 1709.01507)."""

    def __init__(self, channels: int):
        super().__init__()
        inner = round_width(channels, _SQUEEZE)
        self.fc1 = nn.Conv3d(channels, inner, 1)
        self.fc2 = nn.Conv3d(inner, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T H W`` -> ``B C T H W``."""
        means = x.mean((2, 3, 4), keepdim=True)
        return x * self.fc2(F.relu(self.fc1(means), inplace=True)).sigmoid()


class X3DBranch(Branch):
    """1x1x1, depthwise 3x3x3 and 1x1x1 convolutions; Swish after the second."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        inner: int,
        *,
        stride: int,
        depthwise: bool,
        squeezes: bool,
    ):
        super().__init__()
        self.add("a", conv3d(in_channels, inner, 1))
        groups = inner if depthwise else 1
        self.add("b", conv3d(inner, inner, 3, (1, stride, stride), groups=groups))
        self.se = SqueezeExcitation(inner) if squeezes else nn.Identity()
        self.add("c", conv3d(inner, channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``B C T H W`` -> ``B D T H' W'``."""
        x = F.relu(conv_norm(self.a, self.a_bn, x), inplace=True)
        x = F.silu(self.se(conv_norm(self.b, self.b_bn, x)))
        return conv_norm(self.c, self.c_bn, x)


class X3DStem(nn.Module):
    """1x3x3 convolution with stride 2 over rows and columns, then 5x1x1 of every channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv_xy = conv3d(3, channels, (1, 3, 3), (1, 2, 2))
        self.conv = conv3d(channels, channels, (5, 1, 1), groups=channels)
        self.bn = nn.BatchNorm3d(channels)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> ``B C T H/2 W/2``."""
        return F.relu(conv_norm(self.conv, self.bn, self.conv_xy(video)), inplace=True)


class X3DHead(ClipClassifier):
    """More channels, the mean of every window, ``dim_features`` features, and a classifier."""

    def __init__(
        self,
        in_channels: int,
        inner: int,
        dim_features: int,
        window: Sequence[float],
        num_classes: int,
        *,
        norm_features: bool,
        dropout_rate: float,
        activation: str,
    ):
        super().__init__(
            dim_features, num_classes, dropout_rate=dropout_rate, activation=activation
        )
        self.window = tuple(window)
        self.conv_5, self.conv_5_bn = conv3d(in_channels, inner, 1), nn.BatchNorm3d(inner)
        self.lin_5 = conv3d(inner, dim_features, 1)
        if norm_features:
            self.lin_5_bn = nn.BatchNorm3d(dim_features)

    def features(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps ``B C T H W`` -> ``B D``, or ``B P D`` for larger clips."""
        x = F.relu(conv_norm(self.conv_5, self.conv_5_bn, maps), inplace=True)
        x = self.lin_5(pool_windows(x, self.window))
        if hasattr(self, "lin_5_bn"):
            x = self.lin_5_bn(x)
        return features_of(F.relu(x, inplace=True))


@MODEL_REGISTRY.register("X3D")
class X3D(VideoModel):
    """Stages of inverted bottlenecks over depthwise 3x3x3 convolutions.

    Args:
        num_classes: outputs.
        num_frames, crop_size: size of the training clips, over which the head averages; of larger
            clips it classifies every part of this size.
        width_factor, depth_factor, bottleneck_factor: channels, blocks and inner channels relative
            to the smallest network.
        dim_c1, dim_c5: channels of the stem before ``width_factor``, and of the features.
        scale_res2: the first stage has twice the channels of the stem.
        norm_features: normalise the features before the classifier.
        depthwise: whether the 3x3x3 convolutions see one channel each.
        drop_connect_rate: share of the clips of a batch whose branch is left out in training, in
            the last stage; less in the others.
        zero_norm, zero_conv: blocks start as their shortcuts.
        checkpointed: number of blocks of each stage that store no activations.
        dropout_rate, head_act, fc_init_std, whole_clip_head, detach_final_fc: as
            :class:`~.resnet.ResNet`.
    """

    spec = ModelSpec(
        sources=residual_sources("X3D"),
        classifier_prefixes=("head.projection.",),
        finetune_patterns=("s5.", "head."),
        check=check_x3d,
        any_clip_size=True,
        variants={
            "x3d_xs": {"num_frames": 4, "crop_size": 160},
            "x3d_s": {"num_frames": 13, "crop_size": 160},
            "x3d_m": {},
            "x3d_l": {"depth_factor": 5.0, "crop_size": 312},
        },
        test_overrides=TINY_CLIP | {"MODEL.DROPOUT_RATE": 0.0, "X3D.DIM_C1": 8, "X3D.DIM_C5": 32},
    )

    def __init__(
        self,
        *,
        num_classes: int = 400,
        num_frames: int = 16,
        crop_size: int = 224,
        width_factor: float = 2.0,
        depth_factor: float = 2.2,
        bottleneck_factor: float = 2.25,
        dim_c1: int = 12,
        dim_c5: int = 2048,
        scale_res2: bool = False,
        norm_features: bool = False,
        depthwise: bool = True,
        drop_connect_rate: float = 0.0,
        zero_norm: bool = True,
        zero_conv: bool = False,
        checkpointed: Sequence[float] = (0, 0, 0, 0),
        dropout_rate: float = 0.5,
        head_act: str = "softmax",
        fc_init_std: float = 0.01,
        whole_clip_head: bool = False,
        detach_final_fc: bool = False,
    ):
        super().__init__()
        channels = round_width(dim_c1, width_factor)
        self.s1 = Pathways([{"stem": X3DStem(channels)}])
        base = round_width(dim_c1, 2) if scale_res2 else dim_c1
        for stage, count in enumerate(_BLOCKS):
            out = round_width(base, width_factor)
            inner = int(bottleneck_factor * out)
            blocks = {}
            for number in range(math.ceil(depth_factor * count)):
                stride = 2 if number == 0 else 1
                branch = X3DBranch(
                    channels,
                    out,
                    inner,
                    stride=stride,
                    depthwise=depthwise,
                    squeezes=number % 2 == 0,
                )
                rate = drop_connect_rate * (stage + 2) / 5
                blocks[f"res{number}"] = ResBlock(
                    channels, out, branch, stride=stride, drop_connect=rate
                )
                channels = out
            self.add_module(f"s{stage + 2}", Pathways([blocks], checkpointed[stage]))
            base = round_width(base, 2)
        side = math.ceil(crop_size / 32)
        self.num_features = dim_c5
        self.head = X3DHead(
            channels,
            inner,
            dim_c5,
            (math.inf,) * 3 if whole_clip_head else (num_frames, side, side),
            num_classes,
            norm_features=norm_features,
            dropout_rate=dropout_rate,
            activation=head_act,
        )
        init_residual(self, fc_init_std, zero_norm, zero_conv)
        if detach_final_fc:
            train_classifier_only(self)

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> X3D:
        """The network that a configuration describes, with random weights."""
        options, residual = cfg.X3D, cfg.RESNET
        return cls(
            width_factor=options.WIDTH_FACTOR,
            depth_factor=options.DEPTH_FACTOR,
            bottleneck_factor=options.BOTTLENECK_FACTOR,
            dim_c1=options.DIM_C1,
            dim_c5=options.DIM_C5,
            scale_res2=options.SCALE_RES2,
            norm_features=options.BN_LIN5,
            depthwise=options.CHANNELWISE_3x3x3,
            drop_connect_rate=cfg.MODEL.DROPCONNECT_RATE,
            zero_norm=residual.ZERO_INIT_FINAL_BN,
            zero_conv=residual.ZERO_INIT_FINAL_CONV,
            checkpointed=read_checkpointed(cfg),
            **read_head_options(cfg),
        )

    def feature_maps(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> maps before the head, ``B C T h w``."""
        (maps,) = self.s5(self.s4(self.s3(self.s2(self.s1([video])))))
        return maps

    def forward_features(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> features ``B D``; of larger clips than those of the training one vector
        for each part, ``B P D``."""
        return self.head.features(self.feature_maps(video))
