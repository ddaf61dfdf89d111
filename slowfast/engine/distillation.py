"""Knowledge distillation from a frozen teacher (Hinton et al., arXiv 1503.02531)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from slowfast.config.load import load_config
from slowfast.config.node import CfgNode, raise_if_any
from slowfast.engine.network import build_network
from slowfast.models.weights.loader import load_weights
from slowfast.utils.errors import Problem, UserError


class Distillation:
    """The frozen teacher and its term of the loss; teacher and student see the same clips.

    UserError if the teacher's weights are missing or its input differs from the student's.
    """

    def __init__(self, cfg: CfgNode, device: torch.device):
        solver = cfg.SOLVER
        self.alpha, self.temperature = solver.KD_ALPHA, solver.KD_TEMPERATURE
        if not solver.KD_WEIGHTS:
            raise UserError("is not set", "name the teacher's checkpoint", "SOLVER.KD_WEIGHTS")
        teacher = load_config([solver.KD_TEACHER]) if solver.KD_TEACHER else cfg
        raise_if_any(_mismatches(cfg, teacher))
        self.teacher = build_network(teacher, device)
        load_weights(self.teacher, solver.KD_WEIGHTS, teacher, "SOLVER.KD_WEIGHTS")
        self.teacher.eval().requires_grad_(False)
        self.teacher.begin("test")

    def __call__(
        self, loss: torch.Tensor, logits: torch.Tensor, video: torch.Tensor
    ) -> torch.Tensor:
        """``(1 - alpha) * loss + alpha * soft_loss`` with the teacher's logits of ``video``.

        ``loss``: of the student on labels; ``logits``: the student's, ``B classes``.
        """
        with torch.no_grad():
            target = self.teacher(video).float()
        return (1 - self.alpha) * loss + self.alpha * soft_loss(logits, target, self.temperature)


def soft_loss(logits: torch.Tensor, target: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL divergence between softmax distributions at a temperature, times its square, which keeps
    the size of gradients."""
    student = F.log_softmax(logits.float() / temperature, -1)
    teacher = F.log_softmax(target / temperature, -1)
    return F.kl_div(student, teacher, log_target=True, reduction="batchmean") * temperature**2


def _mismatches(cfg: CfgNode, teacher: CfgNode) -> list[Problem]:
    """Keys of classes and input in which teacher and student differ."""
    common = (
        "MODEL.NUM_CLASSES",
        "DATA.NUM_FRAMES",
        "DATA.TRAIN_CROP_SIZE",
        "DATA.MEAN",
        "DATA.STD",
    )
    return [
        Problem(
            f"is {cfg.lookup(key)!r}, the teacher's is {teacher.lookup(key)!r}",
            "both see the same clips: make them equal",
            key,
        )
        for key in common
        if cfg.lookup(key) != teacher.lookup(key)
    ]
