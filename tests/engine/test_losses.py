"""Losses by hand, and what one of another project looks like."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from slowfast.engine.losses import LOSS_REGISTRY, Loss, build_loss, soft_cross_entropy
from slowfast.utils.errors import UserError

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 0.5], [1.0, 1.0, 1.0], [-2.0, 0.0, 4.0]])
LABELS = torch.tensor([0, 1, 2, 0])


def probabilities() -> torch.Tensor:
    return LOGITS.softmax(-1)[torch.arange(4), LABELS]


@pytest.mark.parametrize("name", ["cross_entropy", "soft_cross_entropy"])
def test_cross_entropy(make_cfg, name):
    loss = build_loss(make_cfg({"MODEL.LOSS_FUNC": name}), 3)
    assert loss(LOGITS, LABELS).item() == pytest.approx(-probabilities().log().mean().item())
    targets = F.one_hot(LABELS, 3).float()
    assert torch.equal(loss(LOGITS, targets), loss(LOGITS, LABELS))
    assert loss(LOGITS, 2 * targets) == 2 * loss(LOGITS, targets)


def test_label_smoothing(make_cfg):
    loss = build_loss(make_cfg({"MODEL.LABEL_SMOOTHING": 0.3}), 3)
    expected = F.cross_entropy(LOGITS, LABELS, label_smoothing=0.3)
    assert loss(LOGITS, LABELS).item() == pytest.approx(expected.item())


def test_binary_cross_entropy(make_cfg):
    loss = build_loss(make_cfg({"MODEL.LOSS_FUNC": "bce_logit"}), 3)
    targets = torch.tensor([[1.0, 0.0, 1.0]])
    each = [math.log1p(math.exp(-2)), math.log1p(math.exp(0)), math.log1p(math.exp(1))]
    assert loss(LOGITS[:1], targets).item() == pytest.approx(sum(each) / 3)


def test_focal(make_cfg):
    cfg = make_cfg({"MODEL.LOSS_FUNC": "focal", "MODEL.FOCAL_GAMMA": 1.5})
    p = probabilities()
    expected = -((1 - p) ** 1.5 * p.log()).mean()
    assert build_loss(cfg, 3)(LOGITS, LABELS).item() == pytest.approx(expected.item())
    plain = make_cfg({"MODEL.LOSS_FUNC": "focal", "MODEL.FOCAL_GAMMA": 0.0})
    assert build_loss(plain, 3)(LOGITS, LABELS).item() == pytest.approx(-p.log().mean().item())


def test_focal_of_certain_clips_has_a_gradient():
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    LOSS_REGISTRY.get("focal")(2, gamma=0.5)(logits, torch.tensor([0, 0])).backward()
    assert torch.isfinite(logits.grad).all() and logits.grad[1, 0] < 0


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_class_weights_are_factors_of_clips(make_cfg, name):
    weights = [2.0, 0.5, 0.0]
    options = {"MODEL.LOSS_FUNC": name}
    plain = build_loss(make_cfg(options), 3)
    loss = build_loss(make_cfg(options | {"MODEL.LOSS_CLASS_WEIGHTS": weights}), 3)
    each = [plain(LOGITS[i : i + 1], LABELS[i : i + 1]) * weights[LABELS[i]] for i in range(4)]
    assert loss(LOGITS, LABELS).item() == pytest.approx(sum(each).item() / 4)


def test_class_weights_of_binary_cross_entropy(make_cfg):
    options = {"MODEL.LOSS_FUNC": "bce_logit", "MODEL.LOSS_CLASS_WEIGHTS": [1.0, 0.0, 3.0]}
    targets = torch.tensor([[1.0, 0.0, 1.0]])
    each = math.log1p(math.exp(-2)) + 3 * math.log1p(math.exp(1))
    assert build_loss(make_cfg(options), 3)(LOGITS[:1], targets).item() == pytest.approx(each / 3)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 2.0, -1.0]])
def test_class_weights_that_do_not_fit(make_cfg, weights):
    with pytest.raises(UserError, match="does not fit 3 classes|must be at least 0"):
        build_loss(make_cfg({"MODEL.LOSS_CLASS_WEIGHTS": weights}), 3)


def test_half_precision_logits_are_summed_in_float32(make_cfg):
    loss = build_loss(make_cfg(), 3)(LOGITS.bfloat16(), LABELS)
    assert loss.dtype == torch.float32


def test_bce_names_the_loss_that_works(make_cfg):
    with pytest.raises(UserError, match="use bce_logit"):
        make_cfg({"MODEL.LOSS_FUNC": "bce"})


def test_own_loss_by_name(make_cfg, monkeypatch):
    class ConfidencePenalty(Loss):
        def compute(self, logits, targets):
            entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
            return (soft_cross_entropy(logits, targets) - 0.1 * entropy).mean()

    monkeypatch.setitem(LOSS_REGISTRY._objects, "confidence_penalty", ConfidencePenalty)
    loss = build_loss(make_cfg({"MODEL.LOSS_FUNC": "confidence_penalty"}), 3)
    uniform = torch.zeros(2, 3)
    expected = math.log(3) * 0.9
    assert loss(uniform, LABELS[:2]).item() == pytest.approx(expected)
