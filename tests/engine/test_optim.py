"""Optimizers by name; which parameters share weight decay and learning rate."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import timm.optim
import torch
from torch import nn

from slowfast.config.load import load_config
from slowfast.engine.optim import (
    OPTIMIZER_REGISTRY,
    GroupRule,
    build_optimizer,
    describe_groups,
    layer_scales,
    parameter_groups,
    set_learning_rate,
)
from slowfast.models.base import VideoModel
from slowfast.models.build import build_model
from slowfast.models.spec import ModelSpec
from slowfast.utils.errors import UserError
from tests.conftest import words


class Layers(VideoModel):
    """Two blocks and a head, without batch normalisation."""

    spec = ModelSpec(
        layer_of=lambda model, name: int(name[1]) if name[0] == "b" else 3,
        no_weight_decay=lambda model: {"b0.bias", "head"},
        param_multipliers=lambda model: {"b1.weight": (0.5, 2.0)},
    )

    def __init__(self):
        super().__init__()
        self.b0, self.b1 = nn.Linear(2, 2), nn.Linear(2, 2)
        self.head = nn.Linear(2, 3)


def settings_of(optimizer):
    """name -> (weight decay, learning-rate scale)."""
    return {
        name: (group["weight_decay"], group["lr_scale"])
        for group, names in zip(optimizer.param_groups, optimizer.group_names)
        for name in names
    }


def solver_cfg(**solver):
    """A configuration; layer decay is set past the rules, which ask the network it names."""
    layer_decay = solver.pop("LAYER_DECAY", 1.0)
    values = {"NUM_GPUS": 0} | {f"SOLVER.{key}": value for key, value in solver.items()}
    cfg = load_config(overrides=words(values))
    cfg.defrost()
    cfg.SOLVER.LAYER_DECAY = layer_decay
    return cfg


def test_layer_decay_written_out():
    found = settings_of(build_optimizer(solver_cfg(WEIGHT_DECAY=0.1, LAYER_DECAY=0.5), Layers()))
    assert found == {
        "b0.weight": (0.1, 0.125),
        "b0.bias": (0.0, 0.125),  # exempt by its whole name
        "b1.weight": (0.05, 0.5),  # 0.5 ** 2, times the network's own factors
        "b1.bias": (0.1, 0.25),
        "head.weight": (0.1, 1.0),  # "head" is no whole name
        "head.bias": (0.1, 1.0),
    }


def test_without_layer_decay_parts_of_names_are_exempt():
    found = settings_of(build_optimizer(solver_cfg(WEIGHT_DECAY=0.1), Layers()))
    assert found["head.weight"] == found["head.bias"] == found["b0.bias"] == (0.0, 1.0)
    assert found["b1.weight"] == (0.05, 2.0) and found["b1.bias"] == (0.1, 1.0)


def test_groups_keep_the_order_of_first_parameters():
    """Optimizer states of old checkpoints number the parameters in this order."""
    model = Layers()
    model.b0.weight.requires_grad_(False)
    rule = GroupRule(0.1, 0.0, zero_1d=True)
    groups = parameter_groups(model.named_parameters(), set(), rule)
    assert [group["names"] for group in groups] == [
        ["b0.bias", "b1.bias", "head.bias"],
        ["b1.weight", "head.weight"],
    ]
    assert [group["weight_decay"] for group in groups] == [0.0, 0.1]


def test_a_network_without_layers_refuses_layer_decay():
    class Plain(Layers):
        spec = ModelSpec()

    with pytest.raises(UserError, match="Plain does not tell which layer") as caught:
        layer_scales(Plain(), 0.5)
    assert "layer_of" in str(caught.value) and caught.value.problems[0].key == "SOLVER.LAYER_DECAY"
    with pytest.raises(UserError, match="SOLVER.LAYER_DECAY: ResNet3D has no layers"):
        load_config(
            overrides=words(
                {"NUM_GPUS": 0, "MODEL.MODEL_NAME": "ResNet3D", "SOLVER.LAYER_DECAY": 0.7}
            )
        )


def test_layer_decay_refuses_batch_norm():
    cfg, model = solver_cfg(LAYER_DECAY=0.7), Layers()
    model.norm = nn.BatchNorm1d(2)
    with pytest.raises(UserError, match="SOLVER.LAYER_DECAY: .* batch normalisation"):
        build_optimizer(cfg, model)


@pytest.mark.parametrize(
    "name, kind, expected",
    [
        ("sgd", torch.optim.SGD, {"momentum": 0.8, "dampening": 0.1, "nesterov": False}),
        ("adam", torch.optim.Adam, {"betas": (0.7, 0.9)}),
        ("adamw", torch.optim.AdamW, {"betas": (0.7, 0.9)}),
        ("lamb", timm.optim.Lamb, {"betas": (0.7, 0.9)}),
        ("lion", timm.optim.Lion, {"betas": (0.7, 0.9)}),
        ("rmsproptf", timm.optim.RMSpropTF, {"momentum": 0.8}),
    ],
)
def test_optimizers_by_name(name, kind, expected):
    cfg = solver_cfg(
        OPTIMIZING_METHOD=name,
        BASE_LR=0.02,
        MOMENTUM=0.8,
        DAMPENING=0.1,
        NESTEROV=False,
        BETAS=[0.7, 0.9],
        WEIGHT_DECAY=0.3,
    )
    model = Layers()
    optimizer = build_optimizer(cfg, model)
    assert type(optimizer) is kind
    for group in optimizer.param_groups:
        assert group["lr"] == 0.02
        assert {key: group[key] for key in expected} == expected
    assert settings_of(optimizer)["b1.bias"] == (0.3, 1.0)
    before = model.head.weight.detach().clone()
    model.head(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert not torch.equal(before, model.head.weight)


def test_torch_optimizers_take_the_same_step_as_ever():
    """SGD and AdamW of torch with these arguments, to the bit."""
    for name, make in (
        ("sgd", lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)),
        ("adamw", lambda groups: torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.999))),
    ):
        torch.manual_seed(0)
        ours, theirs = Layers(), Layers()
        theirs.load_state_dict(ours.state_dict())
        rule = GroupRule(1e-4, 0.0)
        groups = parameter_groups(theirs.named_parameters(), set(), rule)
        for group in groups:
            del group["names"]
        solver = SimpleNamespace(
            BASE_LR=0.1, MOMENTUM=0.9, DAMPENING=0.0, NESTEROV=True, BETAS=[0.9, 0.999]
        )
        own_groups = parameter_groups(ours.named_parameters(), set(), rule)
        for group in own_groups:
            del group["names"]
        pair = OPTIMIZER_REGISTRY.get(name)(own_groups, solver), make(groups)
        for _ in range(3):
            for model, optimizer in zip((ours, theirs), pair):
                optimizer.zero_grad()
                model.head(model.b1(model.b0(torch.ones(3, 2)))).square().sum().backward()
                optimizer.step()
        for a, b in zip(ours.parameters(), theirs.parameters()):
            assert torch.equal(a, b)


def test_unknown_and_unusable_optimizers():
    with pytest.raises(UserError, match="no optimizer is called 'admw'") as caught:
        solver_cfg(OPTIMIZING_METHOD="admw")
    assert "adamw" in str(caught.value)
    assert "adahessian" not in OPTIMIZER_REGISTRY  # needs second derivatives
    with pytest.raises(UserError, match="'adan' cannot be built"):  # needs three betas
        build_optimizer(solver_cfg(OPTIMIZING_METHOD="adan"), Layers())
    build_optimizer(solver_cfg(OPTIMIZING_METHOD="adan", BETAS=[0.9, 0.9, 0.99]), Layers())


def test_own_optimizer(monkeypatch):
    monkeypatch.setattr(OPTIMIZER_REGISTRY, "_objects", dict(OPTIMIZER_REGISTRY._objects))

    @OPTIMIZER_REGISTRY.register("half_sgd")
    def half_sgd(groups, solver):
        return torch.optim.SGD(groups, lr=solver.BASE_LR / 2)

    optimizer = build_optimizer(solver_cfg(OPTIMIZING_METHOD="half_sgd", BASE_LR=1.0), Layers())
    assert optimizer.param_groups[0]["lr"] == 0.5
    with pytest.raises(UserError, match="no parameter is trained"):
        build_optimizer(solver_cfg(), Layers().requires_grad_(False))


def test_learning_rate_of_groups():
    optimizer = build_optimizer(solver_cfg(WEIGHT_DECAY=0.1), Layers())
    set_learning_rate(optimizer, 0.4)
    rates = {group["lr_scale"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {1.0: 0.4, 2.0: 0.8}
    lines = describe_groups(optimizer)
    assert len(lines) == 1 + len(optimizer.param_groups)
    assert any(line.split()[:4] == ["1", "4", "0.05", "2"] for line in lines)


def test_groups_of_a_real_model(make_cfg):
    cfg = make_cfg({"SOLVER.ZERO_WD_1D_PARAM": True, "SOLVER.WEIGHT_DECAY": 0.05})
    optimizer = build_optimizer(cfg, build_model(cfg))
    decay = {
        n: g["weight_decay"]
        for g, names in zip(optimizer.param_groups, optimizer.group_names)
        for n in names
    }
    assert decay["blocks1.0.norm1.weight"] == 0 and decay["head.bias"] == 0
    assert decay["blocks3.0.pos_embed.weight"] == 0 and decay["head.weight"] == 0.05
    as_released = make_cfg({"SOLVER.NO_DECAY_BY_NAME": False, "SOLVER.WEIGHT_DECAY": 0.05})
    optimizer = build_optimizer(as_released, build_model(as_released))
    names = [
        n
        for g, ns in zip(optimizer.param_groups, optimizer.group_names)
        if g["weight_decay"] == 0.05
        for n in ns
    ]
    assert "blocks3.0.pos_embed.weight" in names
