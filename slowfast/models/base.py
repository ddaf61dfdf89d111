"""What every model of the registry offers, and the registry itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import nn

from slowfast.config.node import CfgNode
from slowfast.models.spec import ModelSpec
from slowfast.utils.errors import UserError
from slowfast.utils.registry import Registry

if TYPE_CHECKING:
    from slowfast.models.looks.trace import Trace

_EXAMPLE = """@MODEL_REGISTRY.register("{name}")
class {name}(VideoModel):
    def forward_features(self, video): ...  # B 3 T H W -> B C, read by self.head"""


def _check_model(name: str, model: type) -> None:
    """UserError for what is registered as a network and is not a :class:`VideoModel`."""
    if not (isinstance(model, type) and issubclass(model, VideoModel)):
        raise UserError(
            f"the model {name!r} is a {getattr(model, '__name__', model)}, which is not a "
            "subclass of VideoModel",
            "derive it from slowfast.models.VideoModel, which takes one tensor B 3 T H W:\n"
            + _EXAMPLE.format(name=name),
            "MODEL.MODEL_NAME",
        )


MODEL_REGISTRY: Registry[type[VideoModel]] = Registry(
    "model", "MODEL.MODEL_NAME", ignore_case=True, check=_check_model
)

# The clip of a tiny variant, for the tests over all networks.
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


class AuxLogits(NamedTuple):
    """Further logits of a network, to which the task's loss applies as well, times ``weight``."""

    logits: torch.Tensor
    weight: float


AuxLosses = dict[str, "torch.Tensor | AuxLogits"]


def resolve_aux_losses(
    losses: AuxLosses, task_loss: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Auxiliary losses as numbers: the task's loss is applied to :class:`AuxLogits`."""
    return {
        name: value.weight * task_loss(value.logits) if isinstance(value, AuxLogits) else value
        for name, value in losses.items()
    }


@contextlib.contextmanager
def classified_features(model: VideoModel) -> Iterator[list[torch.Tensor]]:
    """The features that ``model`` classifies meanwhile, those of each forward pass: what
    :meth:`VideoModel.forward_features` gives, without a second pass."""
    kept: list[torch.Tensor] = []
    classify = model.classify

    def keep(features: torch.Tensor) -> torch.Tensor:
        kept.append(features)
        return classify(features)

    model.classify = keep
    try:
        yield kept
    finally:
        del model.classify


class VideoModel(nn.Module):
    """A network over clips: ``model(video)`` gives logits, in training and evaluation alike.

    ``model(video, with_losses=True)`` gives ``(logits, {name: loss})``: auxiliary losses
    (or :class:`AuxLogits`), added to the task's loss.
    """

    spec: ClassVar[ModelSpec] = ModelSpec()

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> VideoModel:
        """The network that a configuration describes, with random weights."""
        return cls(cfg)

    def begin(self, split: str) -> None:
        """Compute what does not depend on clips, such as the texts of the classes.

        Called before each training epoch (``train``) and each evaluation (``val``, ``test``),
        after weights were loaded.
        """

    def forward_features(self, video: torch.Tensor) -> torch.Tensor:
        """Features before the head: ``B C`` (networks over frames: ``B T C``; those that classify
        every part of a clip larger than those of the training: ``B P C``)."""
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

    def text_features(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts in the space of :meth:`forward_features`, ``N C`` of length one. UserError if the
        network has no text tower."""
        raise UserError(
            f"{type(self).__name__} has no text tower: it knows no words",
            "take a network of CLIP, or a clip in place of the text",
            "MODEL.MODEL_NAME",
        )

    def attention_map(self, trace: Trace, shape: tuple[int, ...]) -> torch.Tensor | None:
        """Shares ``B t h w`` of the places of a clip of ``shape`` ``B 3 T H W`` in the answer, by
        the attention that ``trace`` has recorded; None: no attention that can be shown."""
        return None
