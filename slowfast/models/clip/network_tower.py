"""Any network of the registry as CLIP's visual tower."""

from __future__ import annotations

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.models.base import VideoModel
from slowfast.models.build import build_model
from slowfast.models.fewshot import embed_clips, embedding_shape_and_params


class NetworkTower(nn.Module):
    """``base`` sees the whole clip, and ``proj`` takes its feature into the space of the texts.

    Parameters outside ``used``, such as a classifier that the feature does not depend on, never
    learn.

    Args:
        base: any network over clips.
        width: channels of its feature.
        embed_dim: channels of the features of texts.
        used: names of the parameters of ``base`` that the feature depends on.
    """

    def __init__(self, base: VideoModel, width: int, embed_dim: int, used: set[str]):
        super().__init__()
        self.base, self.used = base, used
        self.proj = nn.Parameter(width**-0.5 * torch.randn(width, embed_dim))

    @classmethod
    def from_cfg(cls, cfg: CfgNode, name: str, embed_dim: int) -> NetworkTower:
        """The network called ``name``, with the keys of its own section."""
        cfg = cfg.with_value("MODEL.MODEL_NAME", name, "CLIP.VISUAL_TOWER")
        # Its classifier is not used, and must not depend on the classes of a test.
        base = build_model(cfg, num_classes=1)
        (width,), used = embedding_shape_and_params(base, cfg, "vectors")
        return cls(base, width, embed_dim, used)

    def freeze_unused(self) -> None:
        """Freeze what the feature does not depend on; DDP would wait for its gradients."""
        for name, parameter in self.base.named_parameters():
            if name not in self.used:
                parameter.requires_grad_(False)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """``B 3 T H W`` -> one feature per clip, ``B 1 D``, not normalised."""
        return (embed_clips(self.base, video, "vectors") @ self.proj)[:, None]
