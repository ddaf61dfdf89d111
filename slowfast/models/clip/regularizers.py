"""What keeps a CLIP that is fine-tuned on videos near the original: FROSTER's distillation,
Open-VCLIP's interpolated weights, and an ensemble with the original in evaluation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from slowfast.models.clip.scores import class_scores
from slowfast.models.clip.towers import FrozenCLIP

_PROJECTOR_SCALE = 0.1  # of the projection that is added to the frames


class FrozenDistillation(nn.Sequential):
    """Frames, after a small residual projection, keep the direction that a frozen CLIP gives them
    (FROSTER, arXiv 2402.03241).

    The module is the projector: a two-layer MLP whose last layer is zero, so that the residual
    is initially the identity.
    """

    def __init__(self, dim: int, weight: float):
        super().__init__(
            nn.Linear(dim, dim, bias=False), nn.GELU(), nn.Linear(dim, dim, bias=False)
        )
        nn.init.kaiming_normal_(self[0].weight)
        nn.init.zeros_(self[2].weight)
        self.loss_weight = weight

    def loss(self, teacher: FrozenCLIP, video: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Clips ``B 3 T H W`` and normalised features of their frames ``B T D`` -> a number."""
        projected = frames + _PROJECTOR_SCALE * self(frames)
        target = teacher_frames(teacher, video)
        similarity = F.cosine_similarity(projected, target, dim=-1)
        return self.loss_weight * (1 - similarity.mean())


class RawEnsemble:
    """``ratio`` of the scores of a frozen CLIP plus the rest of the network's."""

    def __init__(self, ratio: float):
        self.ratio = ratio

    def mix(
        self, scores: torch.Tensor, teacher: FrozenCLIP, video: torch.Tensor, classes: torch.Tensor
    ) -> torch.Tensor:
        """Scores ``B K``, clips ``B 3 T H W`` and the teacher's features of the classes, ``K D``
        or ``K n D`` -> ``B K``."""
        frames, scale = teacher_frames(teacher, video), teacher.logit_scale.exp()
        return (1 - self.ratio) * scores + self.ratio * class_scores(frames, classes, scale)


def teacher_frames(teacher: FrozenCLIP, video: torch.Tensor) -> torch.Tensor:
    """Normalised features of the frames, without gradient: ``B 3 T H W`` -> ``B T D``."""
    with torch.no_grad():
        return F.normalize(teacher.visual(video).float(), dim=-1)


class InterpolatedWeights:
    """Open-VCLIP's interpolated weight regularisation (arXiv 2302.00624): each training step also
    learns on weights between the network's and the original ones.

    The original weights are constants: neither parameters nor buffers, because DDP would send
    buffers to all processes at every step. They are not saved.

    Args:
        originals: original weights under OpenAI's names.
        weight: weight of the additional loss.
        low, high: the share of the original weights is drawn uniformly between them.
    """

    def __init__(
        self,
        originals: Mapping[str, torch.Tensor],
        weight: float = 1.0,
        low: float = 0.4,
        high: float = 0.6,
    ):
        self.weight, self.low, self.high = weight, low, high
        self._originals = dict(originals)

    def restrict_to(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Keep the originals of the parameters that learn and have the same shape; parameters are
        under OpenAI's names."""
        self._originals = {
            name: self._originals[name].float()
            for name, parameter in parameters.items()
            if parameter.requires_grad
            and name in self._originals
            and self._originals[name].shape == parameter.shape
        }

    def to(self, device: torch.device) -> None:
        """Move the original weights to ``device``."""
        self._originals = {name: value.to(device) for name, value in self._originals.items()}

    def scores(self, network: nn.Module, video: torch.Tensor) -> torch.Tensor:
        """Scores of the interpolated weights of ``network.model``: ``B 3 T H W`` -> ``B K``.

        As published, their gradient is added to that of the network's own weights as it is, not
        scaled by the network's share.
        """
        ratio = torch.empty((), device=video.device).uniform_(self.low, self.high)
        parameters = dict(network.named_parameters())
        interpolated = {}
        for name, original in self._originals.items():
            parameter = parameters[f"model.{name}"]
            interpolated[f"model.{name}"] = parameter + ratio * (original - parameter).detach()
        return functional_call(network, interpolated, (video,))

    def __bool__(self) -> bool:
        """Whether any parameter is interpolated."""
        return bool(self._originals)
