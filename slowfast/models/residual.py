"""What ResNet, SlowFast and X3D have in common: the sections RESNET and NONLOCAL, stages, start."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.checkpointing import checkpointed_blocks
from slowfast.layers.clip_head import ClipClassifier
from slowfast.layers.conv import conv3d, conv_norm
from slowfast.layers.nonlocal_block import NONLOCAL_KINDS, NonLocal
from slowfast.layers.residual import (
    STAGE_DEPTHS,
    BasicBranch,
    BottleneckBranch,
    Pathways,
    ResBlock,
    init_convolutions,
)
from slowfast.utils.errors import Problem

DEPTHS = (18, 50, 101)
_RESNETS = {"MODEL.MODEL_NAME": ("ResNet", "SlowFast")}
_PER_STAGE = "A list per stage, in it one number per pathway (a single one is that of all)."

RESNET = register_section(
    Section(
        "RESNET",
        "ResNet, and what SlowFast and X3D take of it",
        {
            "TRANS_FUNC": Key(
                "bottleneck_transform",
                "Kind of blocks of ResNet and SlowFast; X3D has its own, x3d_transform.",
                choices=("bottleneck_transform", "basic_transform", "x3d_transform"),
            ),
            "NUM_GROUPS": Key(
                1, "Groups of the 1x3x3 convolutions (ResNeXt).", ge=1, only_if=_RESNETS
            ),
            "WIDTH_PER_GROUP": Key(
                64, "Channels of the stem, and inner ones of a group.", ge=1, only_if=_RESNETS
            ),
            "INPLACE_RELU": Key(
                True, "No effect, accepted for old files.", affects_result=False, unused=True
            ),
            "STRIDE_1X1": Key(
                False,
                "Stride in the first convolution of a bottleneck (ResNet alone).",
                only_if={"MODEL.MODEL_NAME": "ResNet"},
            ),
            "ZERO_INIT_FINAL_BN": Key(
                False, "The last normalisation of every block starts at zero."
            ),
            "ZERO_INIT_FINAL_CONV": Key(
                False, "The last convolution of every block starts at zero."
            ),
            "DEPTH": Key(50, "Number of layers.", choices=DEPTHS, only_if=_RESNETS),
            "NUM_BLOCK_TEMP_KERNEL": Key(
                [[3], [4], [6], [3]],
                "Number of blocks with the temporal kernel of the stage; the others have 1. "
                + _PER_STAGE,
                only_if=_RESNETS,
            ),
            "SPATIAL_STRIDES": Key(
                [[1], [2], [2], [2]],
                "Stride over rows and columns. " + _PER_STAGE,
                only_if=_RESNETS,
            ),
            "SPATIAL_DILATIONS": Key(
                [[1], [1], [1], [1]],
                "Dilation over rows and columns. " + _PER_STAGE,
                only_if=_RESNETS,
            ),
        },
        only_if={"MODEL.MODEL_NAME": ("ResNet", "SlowFast", "X3D")},
    )
)

NONLOCAL = register_section(
    Section(
        "NONLOCAL",
        "Non-local blocks of ResNet and SlowFast",
        {
            "LOCATION": Key(
                [[[]], [[]], [[]], [[]]],
                "Blocks after which one stands: a list per stage, per pathway, of numbers from 0.",
            ),
            "GROUP": Key(
                [[1], [1], [1], [1]],
                "Consecutive parts of a clip that do not see each other. " + _PER_STAGE,
            ),
            "INSTANTIATION": Key(
                "dot_product", "Weights of the positions.", choices=NONLOCAL_KINDS
            ),
            "POOL": Key(
                [[[1, 2, 2], [1, 2, 2]]] * 4,
                "Size of the maximum over what is looked at: a list per stage, per pathway, of "
                "three numbers (time, rows, columns).",
            ),
        },
        only_if=_RESNETS,
    )
)

PerStage = Sequence[Sequence[Any]]  # stages, then pathways


def of_pathway(values: Sequence[Any], pathway: int) -> Any:
    """The entry of a pathway; a single entry is that of all."""
    return values[pathway] if len(values) > 1 else values[0]


@dataclass(frozen=True)
class NonLocalOptions:
    """Where non-local blocks stand and of what kind; the fields are keys of NONLOCAL."""

    location: PerStage = (((),),) * 4
    groups: PerStage = ((1,),) * 4
    pool: PerStage = (((1, 2, 2),),) * 4
    kind: str = "dot_product"


@dataclass(frozen=True)
class ResidualOptions:
    """The blocks of ResNet and SlowFast.

    Args:
        depth: 18, 50 or 101 layers.
        basic: blocks of two convolutions instead of bottlenecks.
        width: channels of the stem; the stages have 4, 8, 16 and 32 times as many.
        groups: of the 1x3x3 convolutions of bottlenecks.
        stride_1x1: bottlenecks have their stride in the first convolution (ResNet alone).
        temporal_blocks, strides, dilations: per stage and pathway.
        non_local: non-local blocks.
        zero_norm, zero_conv: blocks start as their shortcuts.
        checkpointed: number of blocks of each stage that store no activations.
    """

    depth: int = 50
    basic: bool = False
    width: int = 64
    groups: int = 1
    stride_1x1: bool = False
    temporal_blocks: PerStage = ((3,), (4,), (6,), (3,))
    strides: PerStage = ((1,), (2,), (2,), (2,))
    dilations: PerStage = ((1,),) * 4
    non_local: NonLocalOptions = field(default_factory=NonLocalOptions)
    zero_norm: bool = True
    zero_conv: bool = False
    checkpointed: Sequence[float] = (0, 0, 0, 0)

    @property
    def counts(self) -> tuple[int, ...]:
        """Blocks of the four stages."""
        return STAGE_DEPTHS[self.depth][1]

    def stage(self, stage: int, pathways: Sequence[PathwayWidths]) -> Pathways:
        """Stage 0 to 3 (res2 to res5) of these pathways."""
        blocks = [self._blocks(stage, number, widths) for number, widths in enumerate(pathways)]
        return Pathways(blocks, self.checkpointed[stage])

    def _blocks(self, stage: int, pathway: int, widths: PathwayWidths) -> dict[str, nn.Module]:
        count = self.counts[stage]
        long = of_pathway(self.temporal_blocks[stage], pathway)
        kernels = (list(widths.temporal_kernels) * count)[: min(long, count)]
        kernels += [1] * (count - len(kernels))
        blocks: dict[str, nn.Module] = {}
        for number, kernel in enumerate(kernels):
            first = number == 0
            in_channels = widths.in_channels if first else widths.channels
            stride = of_pathway(self.strides[stage], pathway) if first else 1
            branch = self._branch(stage, pathway, widths, in_channels, kernel, stride)
            blocks[f"res{number}"] = ResBlock(in_channels, widths.channels, branch, stride=stride)
            if number in of_pathway(self.non_local.location[stage], pathway):
                blocks[f"nonlocal{number}"] = NonLocal(
                    widths.channels,
                    kind=self.non_local.kind,
                    pool=of_pathway(self.non_local.pool[stage], pathway),
                    groups=of_pathway(self.non_local.groups[stage], pathway),
                )
        return blocks

    def _branch(
        self,
        stage: int,
        pathway: int,
        widths: PathwayWidths,
        in_channels: int,
        kernel: int,
        stride: int,
    ) -> nn.Module:
        common = {"temporal_kernel": kernel, "stride": stride}
        if self.basic:
            return BasicBranch(in_channels, widths.channels, **common)
        return BottleneckBranch(
            in_channels,
            widths.channels,
            widths.inner,
            groups=self.groups,
            dilation=of_pathway(self.dilations[stage], pathway),
            stride_1x1=self.stride_1x1,
            **common,
        )


@dataclass(frozen=True)
class PathwayWidths:
    """Channels of a pathway in a stage, and the temporal kernels of its blocks in turn."""

    in_channels: int
    channels: int
    inner: int
    temporal_kernels: Sequence[int]


R50 = ResidualOptions()


class ResNetStem(nn.Module):
    """k x7x7 convolution with stride 2 over rows and columns, and 1x3x3 max pooling."""

    def __init__(self, channels: int, temporal_kernel: int):
        super().__init__()
        self.conv = conv3d(3, channels, (temporal_kernel, 7, 7), (1, 2, 2))
        self.bn = nn.BatchNorm3d(channels)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> ``B C T H/4 W/4``."""
        x = F.relu(conv_norm(self.conv, self.bn, video), inplace=True)
        return F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))


def init_residual(network: nn.Module, linear_std: float, zero_norm: bool, zero_conv: bool) -> None:
    """Initial weights of a network of residual blocks with a :class:`ClipClassifier`."""
    init_convolutions(network)
    for module in network.modules():
        if hasattr(module, "start_at_zero"):
            module.start_at_zero(zero_norm, zero_conv)
        if isinstance(module, ClipClassifier):
            module.init_weights(linear_std)


def train_classifier_only(network: nn.Module) -> None:
    """Linear evaluation: freeze all parameters but those of ``head.projection``."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith("head.projection."))


# -- configuration ---------------------------------------------------------------------------


def read_residual_options(cfg: CfgNode) -> ResidualOptions:
    """The blocks that RESNET, NONLOCAL, BN and MODEL describe."""
    section, non_local = cfg.RESNET, cfg.NONLOCAL
    return ResidualOptions(
        depth=section.DEPTH,
        basic=section.TRANS_FUNC == "basic_transform",
        width=section.WIDTH_PER_GROUP,
        groups=section.NUM_GROUPS,
        stride_1x1=section.STRIDE_1X1,
        temporal_blocks=section.NUM_BLOCK_TEMP_KERNEL,
        strides=section.SPATIAL_STRIDES,
        dilations=section.SPATIAL_DILATIONS,
        non_local=NonLocalOptions(
            location=non_local.LOCATION,
            groups=non_local.GROUP,
            pool=non_local.POOL,
            kind=non_local.INSTANTIATION,
        ),
        zero_norm=section.ZERO_INIT_FINAL_BN,
        zero_conv=section.ZERO_INIT_FINAL_CONV,
        checkpointed=read_checkpointed(cfg),
    )


def read_checkpointed(cfg: CfgNode) -> tuple[float, ...]:
    """Number of blocks of each stage that store no activations."""
    model = cfg.MODEL
    per_stage = model.CHECKPOINT_NUM if model.USE_CHECKPOINT else ()
    return checkpointed_blocks(4, every_block=model.ACT_CHECKPOINT, per_stage=per_stage)


def read_head_options(cfg: CfgNode) -> dict[str, Any]:
    """The arguments of a constructor that all networks of residual blocks share."""
    model = cfg.MODEL
    return {
        "num_classes": model.NUM_CLASSES,
        "num_frames": cfg.DATA.NUM_FRAMES,
        "crop_size": cfg.DATA.TRAIN_CROP_SIZE,
        "dropout_rate": model.DROPOUT_RATE,
        "head_act": model.HEAD_ACT,
        "fc_init_std": model.FC_INIT_STD,
        "whole_clip_head": cfg.MULTIGRID.SHORT_CYCLE,
        "detach_final_fc": model.DETACH_FINAL_FC,
    }


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _is_list_of(check: Any, length: int | None, value: Any) -> bool:
    fits = isinstance(value, list) and (length is None or len(value) == length)
    return fits and all(map(check, value))


_FACTOR = functools.partial(_is_whole, least=1)
# key -> whether an entry of a pathway is right, and what it is
_ENTRIES: Mapping[str, tuple[Any, str]] = {
    "RESNET.NUM_BLOCK_TEMP_KERNEL": (functools.partial(_is_whole, least=0), "a whole number"),
    "RESNET.SPATIAL_STRIDES": (_FACTOR, "a whole number from 1"),
    "RESNET.SPATIAL_DILATIONS": (_FACTOR, "a whole number from 1"),
    "NONLOCAL.GROUP": (_FACTOR, "a whole number from 1"),
    "NONLOCAL.POOL": (functools.partial(_is_list_of, _FACTOR, 3), "three whole numbers from 1"),
    "NONLOCAL.LOCATION": (
        functools.partial(_is_list_of, functools.partial(_is_whole, least=0), None),
        "a list of numbers of blocks",
    ),
}


def check_residual(cfg: CfgNode) -> Iterable[Problem]:
    """Problems of the keys of RESNET and NONLOCAL for a network of one or two pathways; one of a
    single pathway takes the first of two entries."""
    for key, (check, kind) in _ENTRIES.items():
        section, name = key.split(".")
        value = cfg[section][name]
        if len(value) != 4 or not all(
            _is_list_of(check, None, stage) and 1 <= len(stage) <= 2 for stage in value
        ):
            yield Problem(
                f"must be four lists, one per stage, of one or two entries, each {kind}; "
                f"is {value}",
                "see docs/configuration.md",
                key,
            )
        elif key == "NONLOCAL.LOCATION":
            yield from _missing_blocks(cfg)
    if cfg.RESNET.TRANS_FUNC == "x3d_transform":
        yield Problem(
            f"x3d_transform is no block of {cfg.MODEL.MODEL_NAME}",
            "use bottleneck_transform or basic_transform, or MODEL.MODEL_NAME X3D",
            "RESNET.TRANS_FUNC",
        )


def _missing_blocks(cfg: CfgNode) -> Iterable[Problem]:
    """Non-local blocks behind blocks that the stages do not have."""
    counts = STAGE_DEPTHS[cfg.RESNET.DEPTH][1]
    for number, (count, stage) in enumerate(zip(counts, cfg.NONLOCAL.LOCATION), 2):
        missing = sorted({place for places in stage for place in places if place >= count})
        if missing:
            yield Problem(
                f"there is no block {', '.join(map(str, missing))} in res{number}: with "
                f"RESNET.DEPTH {cfg.RESNET.DEPTH} its blocks are 0 to {count - 1}",
                "correct the numbers",
                "NONLOCAL.LOCATION",
            )
