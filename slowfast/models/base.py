"""What every model of the registry offers, and the registry itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.utils.errors import Problem
from slowfast.utils.registry import Registry
from slowfast.video.device import InputFormat

MODEL_REGISTRY: Registry[type[VideoModel]] = Registry("model", "MODEL.MODEL_NAME", ignore_case=True)


# The clip of a tiny variant.
TINY_CLIP = {"DATA.NUM_FRAMES": 4, "DATA.TRAIN_CROP_SIZE": 32, "DATA.TEST_CROP_SIZE": 32}


def init_transformer(model: nn.Module, linear_bias: float = 0.0, norm_bias: float = 0.0) -> None:
    """Linear weights trunc-normal 0.02, norms 1, biases as given (ViT; MViT has 0.02)."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.constant_(module.bias, linear_bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.constant_(module.bias, norm_bias)


class TaskLoss(NamedTuple):
    """Logits of the model's own that the task's loss applies to as well, times ``weight``."""

    logits: torch.Tensor
    weight: float


Losses = dict[str, "torch.Tensor | TaskLoss"]


def own_losses(
    losses: Losses, task_loss: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, torch.Tensor]:
    """A model's own losses as numbers; further logits of it get the task's loss."""
    return {
        name: value.weight * task_loss(value.logits) if isinstance(value, TaskLoss) else value
        for name, value in losses.items()
    }


class VideoModel(nn.Module):
    """A network over clips: ``model(video)`` gives logits, in training and evaluation alike.

    ``model(video, with_losses=True)`` gives ``(logits, {name: loss})``: losses of the model's
    own (or a :class:`TaskLoss`), added to the task's by name.
    """

    # KEY VALUE words of a tiny variant, for tests over the whole registry.
    tiny: ClassVar[dict[str, Any]] = {}
    # True where a training step leaves parameters without gradient (several processes must know).
    has_unused_parameters: bool = False
    # Texts in names of parameters that fine-tuning with MODEL.FINETUNNING trains.
    finetuned: ClassVar[tuple[str, ...]] = ("stfm", "normF", "blocks40", "head")
    # Beginnings of names of parameters whose shape depends on the number of classes.
    head_names: tuple[str, ...] = ("head.",)
    # The key that names the weights it starts from, for messages.
    initial_key: ClassVar[str] = "the model's PRETRAIN_NAME"
    # True for a network that knows classes by their names: any classes can be tested.
    reads_class_names: ClassVar[bool] = False

    @classmethod
    def check(cls, cfg: CfgNode) -> Iterable[Problem]:
        """Problems of a configuration that selects this model."""
        return ()

    @classmethod
    def initial_weights(cls, cfg: CfgNode) -> str:
        """Name below MODEL.PRETRAINED_DIR of the weights a recipe starts from, or empty."""
        return ""

    @classmethod
    def untrained_weights(cls, cfg: CfgNode) -> str:
        """Weights that can be tested without any training, or empty."""
        return ""

    @classmethod
    def input_format(cls, cfg: CfgNode) -> InputFormat | None:
        """The input that the model's part expects; None: what DATA says."""
        return None

    def no_weight_decay(self) -> set[str]:
        """(Parts of) names of parameters that are not decayed."""
        return set()

    def group_factors(self) -> dict[str, tuple[float, float]]:
        """Factors of weight decay and learning rate of parameters that are not treated as all."""
        return {}

    def forward_features(self, video: torch.Tensor) -> torch.Tensor:
        """Features before the head: ``B C`` (networks over frames: ``B T C``)."""
        raise NotImplementedError

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """What :meth:`forward_features` gives -> logits ``B classes``."""
        return self.head(features)

    def forward(
        self, video: torch.Tensor, with_losses: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """``B 3 T H W`` -> logits ``B classes``."""
        logits = self.classify(self.forward_features(video))
        return (logits, {}) if with_losses else logits
