"""Learning from a frozen teacher."""

from __future__ import annotations

import pytest
import torch

from slowfast.engine.distillation import Distillation, soft_loss
from slowfast.engine.launch import launch
from slowfast.engine.run import run_job
from slowfast.utils.errors import UserError


def test_soft_loss_by_hand():
    """Two classes: student at (1/2, 1/2), teacher at (3/4, 1/4)."""
    student, teacher = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log()
    expected = 0.75 * torch.log(torch.tensor(1.5)) + 0.25 * torch.log(torch.tensor(0.5))
    assert soft_loss(student, teacher, 1.0) == pytest.approx(float(expected))
    assert soft_loss(teacher, teacher, 2.0) == pytest.approx(0, abs=1e-7)
    # the square of the temperature keeps the gradient's size
    student = torch.zeros(1, 2, requires_grad=True)
    sizes = []
    for temperature in (4.0, 8.0):
        (gradient,) = torch.autograd.grad(soft_loss(student, teacher, temperature), student)
        sizes.append(float(gradient.abs().max()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


@pytest.fixture
def teacher(make_cfg, tmp_path):
    cfg = make_cfg(
        {"OUTPUT_DIR": str(tmp_path / "teacher"), "SOLVER.MAX_EPOCH": 1, "TEST.ENABLE": False}
    )
    launch(cfg, run_job)
    return tmp_path / "teacher"


def test_a_student_of_another_family(make_cfg, teacher, tmp_path):
    tiny = {
        "STAM.PATCH_SIZE": 8,
        "STAM.EMBED_DIM": 32,
        "STAM.DEPTH": 1,
        "STAM.NUM_HEADS": 2,
        "STAM.TEMPORAL_LAYERS": 1,
        "STAM.TEMPORAL_HEADS": 2,
    }
    student = make_cfg(
        tiny
        | {
            "MODEL.MODEL_NAME": "STAM",
            "SOLVER.KD": True,
            "SOLVER.MAX_EPOCH": 1,
            "SOLVER.KD_TEACHER": str(teacher / "config.yaml"),
            "SOLVER.KD_TEMPERATURE": 2.0,
            "SOLVER.KD_WEIGHTS": str(teacher / "checkpoints" / "checkpoint_epoch_00001.pyth"),
            "OUTPUT_DIR": str(tmp_path / "student"),
            "TEST.ENABLE": False,
        }
    )
    launch(student, run_job)
    log = (tmp_path / "student" / "stdout.log").read_text()
    assert "weights of UniFormer (video)" in log and '"_type": "train_epoch"' in log


def test_the_teacher_is_frozen_and_counts_its_share(make_cfg, teacher):
    weights = str(teacher / "checkpoints" / "checkpoint_epoch_00001.pyth")
    cfg = make_cfg({"SOLVER.KD": True, "SOLVER.KD_WEIGHTS": weights, "SOLVER.KD_ALPHA": 0.25})
    distillation = Distillation(cfg, torch.device("cpu"))
    assert not any(p.requires_grad for p in distillation.teacher.parameters())
    assert not distillation.teacher.training
    video, logits = torch.randn(2, 3, 4, 32, 32), torch.randn(2, 4)
    soft = soft_loss(logits, distillation.teacher(video), 1.0)
    mixed = distillation(torch.tensor(2.0), logits, video)
    assert float(mixed) == pytest.approx(0.75 * 2 + 0.25 * float(soft), rel=1e-5)


def test_a_teacher_that_does_not_fit(make_cfg, teacher):
    with pytest.raises(UserError, match="SOLVER.KD_WEIGHTS: is not set"):
        Distillation(make_cfg({"SOLVER.KD": True}), torch.device("cpu"))
    weights = str(teacher / "checkpoints" / "checkpoint_epoch_00001.pyth")
    cfg = make_cfg(
        {
            "SOLVER.KD": True,
            "SOLVER.KD_WEIGHTS": weights,
            "DATA.NUM_FRAMES": 8,
            "SOLVER.KD_TEACHER": str(teacher / "config.yaml"),
        }
    )
    with pytest.raises(UserError, match="DATA.NUM_FRAMES: is 8, the teacher's is 4"):
        Distillation(cfg, torch.device("cpu"))
