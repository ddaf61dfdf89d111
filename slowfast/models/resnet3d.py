"""3-D ResNets (arXiv 1711.09577, kenshohara/3D-ResNets-PyTorch), names as published."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP, VideoModel
from slowfast.models.spec import ModelSpec

RESNET3D = register_section(
    Section(
        "RESNET3D",
        "3-D ResNet",
        {
            "DEPTH": Key(18, "Layers (model_depth).", choices=(10, 18, 34, 50, 101, 152, 200)),
            "CONV1_T_SIZE": Key(7, "Frames that the first kernel spans.", ge=1),
            "CONV1_T_STRIDE": Key(1, "Its stride over time.", ge=1),
            "MAX_POOL": Key(True, "Max pooling after it (no_max_pool turns it off)."),
            "SHORTCUT": Key(
                "B",
                "Where shapes change: A takes every other voxel and adds zero channels, B is a "
                "convolution (resnet_shortcut).",
                choices=("A", "B"),
            ),
            "WIDEN_FACTOR": Key(1.0, "Channels relative to 64 128 256 512.", gt=0.0),
            "PRETRAIN_NAME": Key(
                "",
                "Weights to start from: a path or a name below MODEL.PRETRAINED_DIR "
                "(r3d50_KMS_200ep and the like), or empty.",
            ),
        },
    )
)

# depth -> (bottleneck, blocks of the four stages)
_DEPTHS = {
    10: (False, (1, 1, 1, 1)),
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
    200: (True, (3, 24, 36, 3)),
}


def _conv(before: int, width: int, kernel: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(before, width, kernel, stride, padding=kernel // 2, bias=False)


class SubsampledShortcut(nn.Module):
    """Shortcut A: every ``stride``-th voxel, zeros for new channels, no parameters.

    The published code cuts its gradient; here it flows.
    """

    def __init__(self, width: int, stride: int):
        super().__init__()
        self.width, self.stride = width, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, :, :: self.stride, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, 0, 0, self.width - x.shape[1]))


class Block3d(nn.Module):
    """Two 3x3x3 convolutions (basic), or 1x1x1, 3x3x3, 1x1x1 (bottleneck), and a shortcut."""

    def __init__(
        self, before: int, planes: int, stride: int, shortcut: nn.Module | None, bottleneck: bool
    ):
        super().__init__()
        if bottleneck:
            sizes = (
                (before, planes, 1, 1),
                (planes, planes, 3, stride),
                (planes, planes * 4, 1, 1),
            )
        else:
            sizes = ((before, planes, 3, stride), (planes, planes, 3, 1))
        self.count = len(sizes)
        for number, (given, width, kernel, step) in enumerate(sizes, 1):
            self.add_module(f"conv{number}", _conv(given, width, kernel, step))
            self.add_module(f"bn{number}", nn.BatchNorm3d(width))
        self.downsample = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            if number < self.count:
                y = F.relu(y, inplace=True)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


@MODEL_REGISTRY.register("ResNet3D")
class ResNet3D(VideoModel):
    """10 to 200 layers; ``feature_maps`` is what few-shot methods build on."""

    spec = ModelSpec(
        initial_weights=lambda cfg: cfg.RESNET3D.PRETRAIN_NAME,
        test_overrides=TINY_CLIP
        | {"RESNET3D.DEPTH": 10, "RESNET3D.WIDEN_FACTOR": 0.125, "RESNET3D.CONV1_T_SIZE": 3},
        finetune_patterns=("layer4", "fc"),
        classifier_prefixes=("fc.",),
    )

    def __init__(self, cfg: CfgNode):
        super().__init__()
        options = cfg.RESNET3D
        bottleneck, counts = _DEPTHS[options.DEPTH]
        widths = [int(width * options.WIDEN_FACTOR) for width in (64, 128, 256, 512)]
        span = options.CONV1_T_SIZE
        self.conv1 = nn.Conv3d(
            3,
            widths[0],
            (span, 7, 7),
            (options.CONV1_T_STRIDE, 2, 2),
            (span // 2, 3, 3),
            bias=False,
        )
        self.bn1 = nn.BatchNorm3d(widths[0])
        self.max_pool = options.MAX_POOL
        channels = widths[0]
        for stage, (planes, count) in enumerate(zip(widths, counts), 1):
            blocks = []
            for block in range(count):
                stride = 2 if stage > 1 and block == 0 else 1
                out = planes * (4 if bottleneck else 1)
                changes = stride != 1 or channels != out
                shortcut = _shortcut(options.SHORTCUT, channels, out, stride) if changes else None
                blocks.append(Block3d(channels, planes, stride, shortcut, bottleneck))
                channels = out
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.num_features = channels
        self.fc = nn.Linear(channels, cfg.MODEL.NUM_CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def head(self) -> nn.Module:
        """The classifier; published names call it ``fc``."""
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
        return self.feature_maps(video).mean((2, 3, 4))


def _shortcut(kind: str, before: int, width: int, stride: int) -> nn.Module:
    if kind == "A":
        return SubsampledShortcut(width, stride)
    return nn.Sequential(nn.Conv3d(before, width, 1, stride, bias=False), nn.BatchNorm3d(width))
