"""Training losses by name (``MODEL.LOSS_FUNC``).

A loss is a callable ``(logits B K, labels B or targets B K) -> scalar``, a mean over clips. Labels
become targets first, so that every loss works with and without mixup. A loss of another project is
a class registered in a module that IMPORTS names::

    @LOSS_REGISTRY.register("confidence_penalty")
    class ConfidencePenalty(Loss):
        def compute(self, logits, targets):
            entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
            return (soft_cross_entropy(logits, targets) - 0.1 * entropy).mean()
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F

from slowfast.config.node import CfgNode
from slowfast.utils.errors import UserError
from slowfast.utils.registry import Registry
from slowfast.utils.targets import smooth_one_hot

LOSS_REGISTRY: Registry[type[Loss]] = Registry("loss", "MODEL.LOSS_FUNC")


def build_loss(cfg: CfgNode, num_classes: int) -> Loss:
    """The loss that ``MODEL.LOSS_FUNC`` names, for ``num_classes`` outputs."""
    return LOSS_REGISTRY.get(cfg.MODEL.LOSS_FUNC).from_cfg(cfg, num_classes)


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross entropy ``B`` of logits ``B K`` with targets ``B K``, which need not sum to one."""
    return -(targets * F.log_softmax(logits, dim=-1)).sum(-1)


class Loss:
    """Base of all losses: turns labels into targets, keeps weights of classes.

    ``class_weights``: a factor per class on its part of the loss; empty: all 1. The loss stays a
    mean over clips (it is not divided by the weights), as accumulation and several processes need.
    """

    # Whether targets may be several ones a clip (DATA.MULTI_LABEL).
    takes_several_labels: ClassVar[bool] = False

    def __init__(
        self, num_classes: int, smoothing: float = 0.0, class_weights: Sequence[float] = ()
    ):
        self.num_classes, self.smoothing = num_classes, smoothing
        if class_weights and (len(class_weights) != num_classes or min(class_weights) < 0):
            raise UserError(
                f"{list(class_weights)} does not fit {num_classes} classes",
                "list one number per class, none below 0",
                "MODEL.LOSS_CLASS_WEIGHTS",
            )
        self._class_weights = torch.tensor(class_weights) if class_weights else None

    @classmethod
    def from_cfg(cls, cfg: CfgNode, num_classes: int) -> Loss:
        """The loss with the options of the section MODEL."""
        model = cfg.MODEL
        return cls(
            num_classes, smoothing=model.LABEL_SMOOTHING, class_weights=model.LOSS_CLASS_WEIGHTS
        )

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits ``B K``, labels ``B`` or targets ``B K`` -> scalar, computed in float32."""
        targets = labels
        if labels.ndim == 1:
            targets = smooth_one_hot(labels, self.num_classes, self.smoothing)
        return self.compute(logits.float(), targets)

    def compute(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Logits ``B K`` and targets ``B K``, both float32 -> scalar."""
        raise NotImplementedError

    def class_weights(self, like: torch.Tensor) -> torch.Tensor | None:
        """The weights ``K`` on the device of ``like``, or None."""
        if self._class_weights is not None:
            self._class_weights = self._class_weights.to(like.device)
        return self._class_weights

    def weighted(self, targets: torch.Tensor) -> torch.Tensor:
        """Targets ``B K`` times the weights of their classes."""
        weights = self.class_weights(targets)
        return targets if weights is None else targets * weights


@LOSS_REGISTRY.register("cross_entropy")
@LOSS_REGISTRY.register("soft_cross_entropy")
class CrossEntropy(Loss):
    """Cross entropy with labels or with soft targets: one loss under PySlowFast's two names."""

    def compute(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See :meth:`Loss.compute`."""
        return soft_cross_entropy(logits, self.weighted(targets)).mean()


@LOSS_REGISTRY.register("bce_logit")
class BinaryCrossEntropy(Loss):
    """Binary cross entropy of each class, a mean over clips and classes."""

    takes_several_labels = True

    def compute(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See :meth:`Loss.compute`."""
        return F.binary_cross_entropy_with_logits(logits, targets, self.class_weights(logits))


@LOSS_REGISTRY.register("focal")
class FocalLoss(Loss):
    """Focal loss (arXiv 1708.02002) over classes: ``-(1 - p)^gamma log p`` of the true class.

    Clips that the network is sure of count less; ``gamma`` 0 is cross entropy.
    """

    def __init__(self, num_classes: int, *, gamma: float = 2.0, **options: object):
        super().__init__(num_classes, **options)
        self.gamma = gamma

    @classmethod
    def from_cfg(cls, cfg: CfgNode, num_classes: int) -> FocalLoss:
        """The loss with MODEL.FOCAL_GAMMA."""
        loss = super().from_cfg(cfg, num_classes)
        loss.gamma = cfg.MODEL.FOCAL_GAMMA
        return loss

    def compute(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See :meth:`Loss.compute`."""
        log_probs = F.log_softmax(logits, dim=-1)
        # Where p is 1, a gamma below 1 would have an infinite gradient.
        unsure = (1.0 - log_probs.exp()).clamp(min=1e-6) ** self.gamma
        return -(self.weighted(targets) * unsure * log_probs).sum(-1).mean()
