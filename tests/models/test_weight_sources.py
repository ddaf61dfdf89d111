"""Each published state dict is recognised by one source, whatever their order."""

from __future__ import annotations

import pytest
import timm
import torch

from slowfast.models import MODEL_REGISTRY
from slowfast.models.weights.loader import load_state
from slowfast.models.weights.sources import detect_source, networks_of, registered_sources
from slowfast.utils.errors import UserError
from tests.models.helpers import VARIANTS, build

STFM = {"STFM.ENABLE": True}
# (network, options) -> the source that its names belong to.
EXPECTED = [
    ("Uniformer", {}, "UniFormer (video)"),
    ("Uniformer", STFM, "STFM"),
    ("TimeSformer", {}, "TimeSformer"),
    ("TimeSformer", {"TIMESFORMER.ATTENTION_TYPE": "joint_space_time"}, "TimeSformer"),
    ("TimeSformer", STFM, "STFM"),
    ("MViT", {}, "MViT"),
    ("MViT", {"MVIT.REL_POS_SPATIAL": False, "MVIT.REL_POS_TEMPORAL": False}, "MViT"),
    ("MViT", STFM, "STFM"),
    ("STAM", {}, "STAM"),
    # Attention within frames and their mean: the parameters of a ViT.
    ("TimeSformer", {"TIMESFORMER.ATTENTION_TYPE": "space_only"}, "ViT (ImageNet, timm)"),
    ("STAM", {"STAM.AGGREGATION": "mean"}, "ViT (ImageNet, timm)"),
    ("FrameAverage", {}, "a state dict of these names"),
]


def matching(state):
    return [source.name for source in registered_sources() if source.matches(state)]


def tiny_vit():
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    return timm.models.vision_transformer.VisionTransformer(**sizes).state_dict()


@pytest.mark.parametrize("name, extra", VARIANTS)
def test_names_of_any_network_belong_to_one_source_at_most(name, extra):
    state = build(name, extra)[1].state_dict()
    assert len(matching(state)) <= 1
    assert len(matching({f"model.{key}": value for key, value in state.items()})) <= 1


@pytest.mark.parametrize("name, extra, source", EXPECTED)
def test_names_of_our_networks(name, extra, source):
    state = build(name, extra)[1].state_dict()
    assert detect_source(state).name == source
    assert matching(state) == ([source] if source in {s.name for s in registered_sources()} else [])


def test_names_of_image_networks():
    state = build("Uniformer")[1].state_dict()
    flat = {name: value.sum(2) if value.ndim == 5 else value for name, value in state.items()}
    assert matching(flat) == ["UniFormer (ImageNet)"]
    assert matching(tiny_vit()) == ["ViT (ImageNet, timm)"]
    assert matching(timm.create_model("test_efficientnet").state_dict()) == [
        "a 2-D network (ImageNet)"
    ]


def test_released_timesformer_has_a_prefix():
    for kind in ("divided_space_time", "space_only"):
        state = build("TimeSformer", {"TIMESFORMER.ATTENTION_TYPE": kind})[1].state_dict()
        assert matching({f"model.{name}": v for name, v in state.items()}) == ["TimeSformer"]


def test_shared_sources_are_listed_once():
    """A format that several networks read is one object."""
    sources = registered_sources()
    assert len({source.name for source in sources}) == len(sources)
    for name in ("Uniformer", "TimeSformer", "MViT", "STAM"):
        assert MODEL_REGISTRY.get(name).spec.sources


def test_networks_of_a_file():
    residual = ("ResNet3D", "ResNet", "SlowFast", "X3D")
    for name in ("Uniformer", "TimeSformer", "MViT", "STAM", *residual):
        assert networks_of(build(name)[1].state_dict()) == [name]
    assert networks_of(tiny_vit()) == ["STAM", "TimeSformer"]
    assert networks_of({"layer.weight": torch.zeros(2)}) == []


def test_torchvisions_mvit_has_other_names():
    names = ("conv_proj.weight", "pos_encoding.class_token", "blocks.0.attn.pool_q.pool.weight")
    names += ("blocks.0.attn.rel_pos_h", "blocks.0.mlp.0.weight", "head.1.weight")
    assert matching(dict.fromkeys(names, torch.zeros(2))) == []


@pytest.mark.parametrize(
    "network, file, said",
    [
        ("Uniformer", "MViT", "these are weights of MViT: set MODEL.MODEL_NAME MViT"),
        ("MViT", "TimeSformer", "these are weights of TimeSformer"),
        ("Uniformer", "FrameAverage", "check MODEL.MODEL_NAME"),
        ("ResNet", "SlowFast", "these are weights of SlowFast: set MODEL.MODEL_NAME SlowFast"),
        ("SlowFast", "X3D", "these are weights of X3D: set MODEL.MODEL_NAME X3D"),
    ],
)
def test_a_file_of_another_network_is_named(network, file, said):
    with pytest.raises(UserError, match=said):
        load_state(build(network)[1], build(file)[1].state_dict())


def test_a_file_of_this_network_that_does_not_fit_is_not_blamed_on_its_kind():
    other = build("Uniformer", {"UNIFORMER.EMBED_DIM": [16, 16, 16, 16]})[1]
    with pytest.raises(UserError, match="check MODEL.MODEL_NAME and the model's section"):
        load_state(build("Uniformer")[1], other.state_dict())


def test_unknown_names_are_taken_as_they_are():
    state = {"layer.weight": torch.zeros(2)}
    source = detect_source(state)
    assert source.name == "a state dict of these names" and source.adapt(state, None) is state
