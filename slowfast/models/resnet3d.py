"""3-D ResNets (arXiv 1711.09577, kenshohara/3D-ResNets-PyTorch), names as published."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.layers.residual import STAGE_DEPTHS, init_convolutions, run_convolutions
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP, VideoModel
from slowfast.models.spec import ModelSpec, State, WeightSource
from slowfast.utils.errors import UserError

RESNET3D = register_section(
    Section(
        "RESNET3D",
        "3-D ResNet",
        {
            "DEPTH": Key(18, "Layers (model_depth).", choices=(10, 18, 34, 50, 101, 152, 200)),
            "CONV1_T_SIZE": Key(7, "Size of the first convolution's kernel over time.", ge=1),
            "CONV1_T_STRIDE": Key(1, "Stride of the first convolution over time.", ge=1),
            "MAX_POOL": Key(
                True, "Max pooling after the first convolution (no_max_pool turns it off)."
            ),
            "SHORTCUT": Key(
                "B",
                "Shortcut where the shape changes: A subsamples and adds zero channels, B is a "
                "1x1x1 convolution (resnet_shortcut).",
                choices=("A", "B"),
            ),
            "WIDEN_FACTOR": Key(1.0, "Channels relative to 64 128 256 512.", gt=0.0),
            "PRETRAIN_NAME": Key(
                "",
                "Weights to start from: a path or a name below MODEL.PRETRAINED_DIR "
                "(r3d50_KMS_200ep and the like), or empty.",
            ),
        },
        only_if={"MODEL.MODEL_NAME": "ResNet3D"},
    )
)


def _conv(in_channels: int, channels: int, kernel: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=False)


def is_resnet3d(state: State) -> bool:
    """Whether a state dict is that of a 3-D ResNet under its published names."""
    return "layer4.0.conv1.weight" in state and state["layer4.0.conv1.weight"].ndim == 5


class SubsampledShortcut(nn.Module):
    """Shortcut A: every ``stride``-th voxel, zeros for new channels, no parameters.

    The published code detaches it from the graph; here its gradient flows.
    """

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, :, :: self.stride, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, 0, 0, self.channels - x.shape[1]))


def _subsampled(in_channels: int, channels: int, stride: int) -> nn.Module:
    return SubsampledShortcut(channels, stride)


def _projected(in_channels: int, channels: int, stride: int) -> nn.Module:
    conv = nn.Conv3d(in_channels, channels, 1, stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(channels))


_SHORTCUTS = {"A": _subsampled, "B": _projected}


class Block3d(nn.Module):
    """Two 3x3x3 convolutions (basic), or 1x1x1, 3x3x3, 1x1x1 (bottleneck), and a shortcut."""

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int,
        shortcut: nn.Module | None,
        bottleneck: bool,
    ):
        super().__init__()
        if bottleneck:
            sizes = (
                (in_channels, planes, 1, 1),
                (planes, planes, 3, stride),
                (planes, planes * 4, 1, 1),
            )
        else:
            sizes = ((in_channels, planes, 3, stride), (planes, planes, 3, 1))
        self.num_convs = len(sizes)
        for number, (inputs, channels, kernel, conv_stride) in enumerate(sizes, 1):
            self.add_module(f"conv{number}", _conv(inputs, channels, kernel, conv_stride))
            self.add_module(f"bn{number}", nn.BatchNorm3d(channels))
        self.downsample = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        numbers = range(1, self.num_convs + 1)
        layers = [(getattr(self, f"conv{n}"), getattr(self, f"bn{n}")) for n in numbers]
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(run_convolutions(x, layers) + shortcut, inplace=True)


@MODEL_REGISTRY.register("ResNet3D")
class ResNet3D(VideoModel):
    """10 to 200 layers; ``feature_maps`` is what few-shot methods build on.

    Args:
        num_classes: outputs.
        depth: number of layers (model_depth): 10, 18, 34, 50, 101, 152 or 200.
        conv1_t_size, conv1_t_stride: kernel and stride of the first convolution over time.
        max_pool: max pooling after the first convolution.
        shortcut: where the shape changes, "A" (no parameters) or "B" (a convolution).
        widen_factor: channels relative to 64, 128, 256, 512.

    UserError for another depth or shortcut.
    """

    spec = ModelSpec(
        sources=(WeightSource("3-D ResNet", is_resnet3d),),
        initial_weights=lambda cfg: cfg.RESNET3D.PRETRAIN_NAME,
        weights_key="RESNET3D.PRETRAIN_NAME",
        variants={f"r3d_{depth}": {"depth": depth} for depth in (18, 34, 50)},
        test_overrides=TINY_CLIP
        | {"RESNET3D.DEPTH": 10, "RESNET3D.WIDEN_FACTOR": 0.125, "RESNET3D.CONV1_T_SIZE": 3},
        finetune_patterns=("layer4", "fc"),
        classifier_prefixes=("fc.",),
    )

    def __init__(
        self,
        *,
        num_classes: int = 400,
        depth: int = 18,
        conv1_t_size: int = 7,
        conv1_t_stride: int = 1,
        max_pool: bool = True,
        shortcut: str = "B",
        widen_factor: float = 1.0,
    ):
        super().__init__()
        if depth not in STAGE_DEPTHS:
            known = ", ".join(map(str, STAGE_DEPTHS))
            raise UserError(f"there is no 3-D ResNet of {depth} layers", f"depth is one of {known}")
        if shortcut not in _SHORTCUTS:
            raise UserError(f"there is no shortcut {shortcut!r}", "shortcut is A or B")
        bottleneck, counts = STAGE_DEPTHS[depth]
        widths = [int(width * widen_factor) for width in (64, 128, 256, 512)]
        self.conv1 = nn.Conv3d(
            3,
            widths[0],
            (conv1_t_size, 7, 7),
            (conv1_t_stride, 2, 2),
            (conv1_t_size // 2, 3, 3),
            bias=False,
        )
        self.bn1 = nn.BatchNorm3d(widths[0])
        self.max_pool = max_pool
        channels = widths[0]
        for stage, (planes, count) in enumerate(zip(widths, counts), 1):
            blocks = []
            for block in range(count):
                stride = 2 if stage > 1 and block == 0 else 1
                out = planes * (4 if bottleneck else 1)
                changes = stride != 1 or channels != out
                bypass = _SHORTCUTS[shortcut](channels, out, stride) if changes else None
                blocks.append(Block3d(channels, planes, stride, bypass, bottleneck))
                channels = out
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.num_features = channels
        self.fc = nn.Linear(channels, num_classes)
        init_convolutions(self)

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> ResNet3D:
        options = cfg.RESNET3D
        return cls(
            num_classes=cfg.MODEL.NUM_CLASSES,
            depth=options.DEPTH,
            conv1_t_size=options.CONV1_T_SIZE,
            conv1_t_stride=options.CONV1_T_STRIDE,
            max_pool=options.MAX_POOL,
            shortcut=options.SHORTCUT,
            widen_factor=options.WIDEN_FACTOR,
        )

    @property
    def head(self) -> nn.Module:
        """The classifier ``fc`` under the name that other networks use."""
        return self.fc

    def feature_maps(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> maps before pooling, ``B C d h w``."""
        x = F.relu(self.bn1(self.conv1(video)), inplace=True)
        if self.max_pool:
            x = F.max_pool3d(x, 3, 2, padding=1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return x

    def forward_features(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> mean of the maps, ``B C``."""
        return self.feature_maps(video).mean((2, 3, 4))
