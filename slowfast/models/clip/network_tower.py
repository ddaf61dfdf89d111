"""Any network of the registry as CLIP's visual tower."""

from __future__ import annotations

import dataclasses
import itertools

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.models.base import MODEL_REGISTRY, VideoModel
from slowfast.models.build import build_model
from slowfast.models.fewshot import embed_clips, embedding_shape_and_params
from slowfast.models.spec import ModelSpec
from slowfast.video.device import InputFormat

_PREFIX = "model.visual.base."  # of the names of its parameters in TemporalClipVideo


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


def with_network_tower(spec: ModelSpec) -> ModelSpec:
    """CLIP's specification and, where its visual tower is a network of the registry, what the
    specification of that network says of training and of the form of clips."""

    def multipliers(model: nn.Module) -> dict[str, tuple[float, float]]:
        found = spec.param_multipliers(model)
        for tower in _towers(model):
            for name, (decay, rate) in tower.base.spec.param_multipliers(tower.base).items():
                own_decay, own_rate = found.get(_PREFIX + name, (1.0, 1.0))
                found[_PREFIX + name] = (decay * own_decay, rate * own_rate)
        return found

    def undecayed(model: nn.Module) -> set[str]:
        towers = (tower.base.spec.no_weight_decay(tower.base) for tower in _towers(model))
        return spec.no_weight_decay(model).union(*towers)

    def full_precision(model: nn.Module) -> list[nn.Module]:
        towers = [tower.base.spec.full_precision(tower.base) for tower in _towers(model)]
        return [*spec.full_precision(model), *itertools.chain(*towers)]

    def reads_all_parameters(model: nn.Module) -> bool:
        towers = [tower.base.spec.reads_all_parameters(tower.base) for tower in _towers(model)]
        return spec.reads_all_parameters(model) or any(towers)

    def input_format(cfg: CfgNode) -> InputFormat | None:
        name = cfg.CLIP.VISUAL_TOWER
        if not name:
            return spec.input_format(cfg)
        cfg = cfg.with_value("MODEL.MODEL_NAME", name, "CLIP.VISUAL_TOWER")
        return MODEL_REGISTRY.get(name).spec.input_format(cfg)

    return dataclasses.replace(
        spec,
        no_weight_decay=undecayed,
        param_multipliers=multipliers,
        reads_all_parameters=reads_all_parameters,
        full_precision=full_precision,
        input_format=input_format,
    )


def _towers(model: nn.Module) -> list[NetworkTower]:
    """The network in place of the visual tower of a ``TemporalClipVideo``, if there is one."""
    visual = model.model.visual
    return [visual] if isinstance(visual, NetworkTower) else []
