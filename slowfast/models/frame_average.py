"""FrameAverage: a small 2-D network on each frame, averaged over frames.

It is blind to the order of frames: classes of motions must not be solvable by it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.config.schema import Key, Section, register_section
from slowfast.models.base import MODEL_REGISTRY, TINY_CLIP, VideoModel
from slowfast.models.spec import ModelSpec

FRAME_AVERAGE = register_section(
    Section(
        "FRAME_AVERAGE",
        "Order-blind baseline: a 2-D network on each frame, averaged",
        {
            "WIDTHS": Key(
                [16, 32, 64, 128], "Channels of the convolutions.", item=int, min_length=1, ge=1
            )
        },
        only_if={"MODEL.MODEL_NAME": "FrameAverage"},
    )
)


@MODEL_REGISTRY.register("FrameAverage")
class FrameAverage(VideoModel):
    """Strided 3x3 convolutions with batch normalisation, mean over space, then over time.

    Args:
        num_classes: outputs.
        widths: channels of the convolutions, each of which halves the resolution.
    """

    spec = ModelSpec(
        test_overrides=TINY_CLIP | {"FRAME_AVERAGE.WIDTHS": [8, 16]}, variants={"frame_average": {}}
    )

    def __init__(self, *, num_classes: int = 400, widths: Sequence[int] = (16, 32, 64, 128)):
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in widths:
            layers += [
                nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(channels, num_classes)

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> FrameAverage:
        return cls(num_classes=cfg.MODEL.NUM_CLASSES, widths=cfg.FRAME_AVERAGE.WIDTHS)

    def forward_features(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> ``B C``."""
        frames = video.transpose(1, 2)
        b, t = frames.shape[:2]
        features = self.body(frames.flatten(0, 1)).mean((2, 3))
        return features.unflatten(0, (b, t)).mean(1)
