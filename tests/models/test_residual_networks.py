"""ResNet, SlowFast and X3D: what the tests over all networks do not ask."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import slowfast
from slowfast.config.load import load_config
from slowfast.engine.network import build_network
from slowfast.engine.optim import build_optimizer
from slowfast.models.resnet import ARCHES, ResNet
from slowfast.models.slowfast import slow_frames
from slowfast.models.x3d import round_width
from slowfast.utils.errors import UserError
from tests.models.helpers import build, clips, to_eval

NETWORKS = ["ResNet", "SlowFast", "X3D"]


def temporal_kernels(model: nn.Module, stage: str, pathway: int = 0) -> list[int]:
    blocks = dict(getattr(model, stage).named_children())
    return [
        block.branch2.a.kernel_size[0]
        for name, block in blocks.items()
        if name.startswith(f"pathway{pathway}_res")
    ]


@pytest.mark.parametrize(
    "arch, stem, res3, res5, frames",
    [
        ("2d", 1, [1, 1, 1, 1], [1, 1, 1], 4),
        ("c2d", 1, [1, 1, 1, 1], [1, 1, 1], 2),
        ("slow_c2d", 1, [1, 1, 1, 1], [1, 1, 1], 4),
        ("i3d", 5, [3, 1, 3, 1], [1, 3, 1], 2),
        ("slow_i3d", 5, [3, 1, 3, 1], [1, 3, 1], 4),
        ("slow", 1, [1, 1, 1, 1], [3, 3, 3], 4),
    ],
)
def test_arches(arch, stem, res3, res5, frames):
    with torch.device("meta"):
        model = ResNet(arch=arch, num_frames=4, crop_size=32).eval()
    assert model.s1.pathway0_stem.conv.kernel_size == (stem, 7, 7)
    assert temporal_kernels(model, "s3") == res3 and temporal_kernels(model, "s5") == res5
    maps = model.feature_maps(torch.zeros(1, 3, 4, 32, 32, device="meta"))
    assert maps.shape == (1, 2048, frames, 1, 1)
    assert set(ARCHES) == {"2d", "c2d", "slow_c2d", "i3d", "slow_i3d", "slow"}


def test_number_of_blocks_with_a_temporal_kernel():
    cfg, _ = build("ResNet")
    extra = {"RESNET.DEPTH": 50, "RESNET.NUM_BLOCK_TEMP_KERNEL": [[3], [4], [2], [3]]}
    _, model = build("ResNet", extra)
    assert temporal_kernels(model, "s4") == [3, 3, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "frames, alpha, expected", [(32, 8, (0, 10, 20, 31)), (160, 4, None), (8, 8, (0,))]
)
def test_slow_frames(frames, alpha, expected):
    """Truncated in float32, as published: 160 frames give 52 where exact numbers give 53."""
    drawn = slow_frames(frames, alpha)
    assert len(drawn) == frames // alpha and list(drawn) == sorted(drawn)
    assert drawn[0] == 0 and drawn == (expected or drawn)
    if frames == 160:
        assert 52 in drawn and 53 not in drawn


def test_slow_pathway_of_slowfast():
    cfg, model = build("SlowFast")
    video = clips(cfg)
    slow, fast = model.pathways(video)
    assert torch.equal(fast, video) and torch.equal(slow, video[:, :, [0, 3]])
    longer = torch.randn(1, 3, 8, 32, 32)
    assert to_eval(model)(longer).shape == (1, 5)
    with pytest.raises(UserError, match="multiple of 2 frames, not 7"):
        model(longer[:, :, :7])


def test_round_width():
    """Multiples of 8, never less than 90 %."""
    values = [(12, 2), (24, 2), (54, 0.0625), (10, 1), (11, 1), (44, 1), (3, 1)]
    assert [round_width(*pair) for pair in values] == [24, 48, 8, 16, 16, 48, 8]


@pytest.mark.parametrize("name", NETWORKS)
def test_larger_crops_are_tested_at_every_position(name):
    """The mean of what every part of the training's size says."""
    cfg, model = build(name)
    to_eval(model)
    video = torch.randn(2, 3, cfg.DATA.NUM_FRAMES, 64, 96)
    with torch.no_grad():
        features = model.forward_features(video)
        assert features.ndim == 3 and features.shape[1] == 2 * 3
        each = torch.stack([model.classify(position) for position in features.unbind(1)], dim=1)
        assert torch.allclose(model(video).softmax(-1), each.softmax(-1).mean(1), atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_linear_evaluation(name):
    """Only the classifier is trained, and nothing below it gets a gradient."""
    cfg, model = build(name, {"MODEL.DETACH_FINAL_FC": True})
    model(clips(cfg)).sum().backward()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None}
    assert trained == with_gradient == {"head.projection.weight", "head.projection.bias"}


@pytest.mark.parametrize("name", NETWORKS)
def test_initial_weights(name):
    """Blocks begin as their shortcuts, the classifier near zero."""
    _, model = build(name, {"RESNET.ZERO_INIT_FINAL_BN": True, "MODEL.FC_INIT_STD": 0.1})
    zero = {n for n, p in model.named_parameters() if not p.any() and n.endswith("weight")}
    blocks = {n for n, m in model.named_modules() if hasattr(m, "branch2")}
    assert zero == {f"{block}.branch2.c_bn.weight" for block in blocks}
    assert model.head.projection.weight.std().item() == pytest.approx(0.1, rel=0.2)
    _, model = build(name, {"RESNET.ZERO_INIT_FINAL_BN": False})
    assert all(p.any() for n, p in model.named_parameters() if n.endswith("weight"))


def test_normalisation_is_a_group_of_its_own():
    extra = {"SOLVER.WEIGHT_DECAY": 1e-4, "BN.WEIGHT_DECAY": 0.0, "SOLVER.OPTIMIZING_METHOD": "sgd"}
    cfg, model = build("SlowFast", extra)
    optimizer = build_optimizer(cfg, model)
    decays = [group["weight_decay"] for group in optimizer.param_groups]
    assert sorted(decays) == [0.0, 1e-4]
    names = optimizer.group_names[decays.index(0.0)]
    assert names and all(".bn." in n or "_bn." in n for n in names)
    assert not any("bn." in n for n in optimizer.group_names[decays.index(1e-4)])


@pytest.mark.parametrize("name, first", [("ResNet", 2), ("SlowFast", 1)])
def test_only_resnet_has_the_stride_in_the_first_convolution(name, first):
    """PySlowFast's SlowFast does not read RESNET.STRIDE_1X1."""
    _, model = build(name, {"RESNET.STRIDE_1X1": True})
    branch = model.s3.pathway0_res0.branch2
    assert (branch.a.stride[1], branch.b.stride[1]) == (first, 3 - first)


def test_drop_connect_grows_with_the_stage():
    _, model = build("X3D", {"MODEL.DROPCONNECT_RATE": 0.5})
    rates = [getattr(model, f"s{k}").pathway0_res0.drop_path.drop_prob for k in (2, 3, 4, 5)]
    assert rates == pytest.approx([0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize("name", NETWORKS)
def test_checkpointed_blocks_give_the_same_gradients(name):
    gradients = []
    for extra in ({}, {"MODEL.ACT_CHECKPOINT": True}):
        cfg, model = build(name, extra)
        model(clips(cfg)).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(*gradients))


@pytest.mark.parametrize(
    "extra, key",
    [
        ({"MODEL.ARCH": "uniformer"}, "MODEL.ARCH"),
        (
            {"MODEL.ARCH": "slow", "RESNET.SPATIAL_STRIDES": [[1], [2], [2]]},
            "RESNET.SPATIAL_STRIDES",
        ),
        ({"MODEL.ARCH": "slow", "RESNET.SPATIAL_STRIDES": [1, 2, 2, 2]}, "RESNET.SPATIAL_STRIDES"),
        ({"MODEL.ARCH": "slow", "NONLOCAL.LOCATION": [[], [], [], []]}, "NONLOCAL.LOCATION"),
        ({"MODEL.ARCH": "slow", "NONLOCAL.POOL": [[[1, 2]]] * 4}, "NONLOCAL.POOL"),
        ({"MODEL.ARCH": "slow", "RESNET.TRANS_FUNC": "x3d_transform"}, "RESNET.TRANS_FUNC"),
        ({"MODEL.MODEL_NAME": "SlowFast", "DATA.NUM_FRAMES": 12}, "DATA.NUM_FRAMES"),
        (
            {"MODEL.MODEL_NAME": "SlowFast", "SLOWFAST.FUSION_KERNEL_SZ": 4},
            "SLOWFAST.FUSION_KERNEL_SZ",
        ),
        ({"MODEL.MODEL_NAME": "SlowFast", "SLOWFAST.BETA_INV": 128}, "SLOWFAST.BETA_INV"),
        (
            {"MODEL.MODEL_NAME": "X3D", "NONLOCAL.LOCATION": [[[0]], [[]], [[]], [[]]]},
            "NONLOCAL.LOCATION",
        ),
    ],
)
def test_bad_configurations_are_named(extra, key):
    with pytest.raises(UserError) as caught:
        load_config(overrides={"MODEL.MODEL_NAME": "ResNet", "NUM_GPUS": 0} | extra)
    assert [problem.key for problem in caught.value.problems] == [key]


@pytest.mark.parametrize(
    "extra, message",
    [
        (
            {"NONLOCAL.LOCATION": [[[]], [[4]], [[]], [[]]]},
            "NONLOCAL.LOCATION: there is no block 4 in res3: with RESNET.DEPTH 50 its blocks are "
            "0 to 3",
        ),
        (
            {"RESNET.DEPTH": 18, "NONLOCAL.LOCATION": [[[]], [[]], [[1, 3, 2]], [[]]]},
            "NONLOCAL.LOCATION: there is no block 2, 3 in res4: with RESNET.DEPTH 18",
        ),
        (
            {"MODEL.MODEL_NAME": "SlowFast", "RESNET.NUM_GROUPS": 32, "RESNET.WIDTH_PER_GROUP": 10},
            "RESNET.NUM_GROUPS: 40 channels of the fast pathway do not divide into 32 groups",
        ),
        (  # res2 would be possible
            {"MODEL.MODEL_NAME": "SlowFast", "RESNET.NUM_GROUPS": 2, "RESNET.WIDTH_PER_GROUP": 10},
            "RESNET.NUM_GROUPS: 5 channels of the fast pathway do not divide into 2 groups",
        ),
    ],
)
def test_parts_that_cannot_be(extra, message):
    with pytest.raises(UserError) as caught:
        load_config(overrides={"MODEL.MODEL_NAME": "ResNet", "MODEL.ARCH": "slow"} | extra)
    (problem,) = caught.value.problems
    assert str(problem).startswith(message)


def test_groups_of_the_fast_pathway():
    """As many as its narrowest layer has channels."""
    extra = {"RESNET.NUM_GROUPS": 4, "RESNET.TRANS_FUNC": "bottleneck_transform"}
    cfg, model = build("SlowFast", extra)
    assert model.s2.pathway1_res0.branch2.b.groups == 4 and cfg.SLOWFAST.BETA_INV == 4


def test_arch_of_the_constructor():
    with pytest.raises(UserError, match="no ResNet of arch 'x3d'"):
        slowfast.create_model("slow_r50", arch="x3d")
    with pytest.raises(UserError, match="multiple of 8 frames, not 12"):
        slowfast.create_model("slowfast_4x16_r50", num_frames=12)


@pytest.mark.parametrize(
    "name, blind", [("c2d", True), ("slow", False), ("i3d", False), ("slowfast", False)]
)
def test_who_sees_the_order_of_frames(name, blind):
    """Of the embedded set's networks C2D alone answers for a clip as for its reverse."""
    cfg = load_config([f"configs/quickstart/{name}.yaml"], ["NUM_GPUS", "0"])
    torch.manual_seed(0)
    model = to_eval(build_network(cfg))
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm3d)):
        nn.init.ones_(norm.weight)  # not only shortcuts
    video = clips(cfg)
    with torch.inference_mode():
        played, backwards = model(video), model(video.flip(2))
    assert torch.allclose(played, backwards, rtol=1e-4, atol=1e-6) == blind
