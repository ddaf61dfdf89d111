"""TimeSformer, MViT and STAM: initial weights, other sizes, clear refusals, STFM in them."""

from __future__ import annotations

import ast
import json

import pytest
import timm
import torch

from slowfast.config.load import load_config
from slowfast.models import MODEL_REGISTRY, build_model
from slowfast.models.summary import measure_model
from slowfast.models.weights.loader import load_state
from slowfast.utils.errors import UserError
from tests.conftest import ROOT, words


def make(name, extra=None):
    tiny = {"NUM_GPUS": 0, "MODEL.NUM_CLASSES": 5, "MODEL.MODEL_NAME": name}
    cfg = load_config(
        overrides=words(tiny | MODEL_REGISTRY.get(name).spec.test_overrides | (extra or {}))
    )
    torch.manual_seed(0)
    return cfg, build_model(cfg)


def tiny_vit(dim=32, depth=3, heads=2, size=32, **extra):
    torch.manual_seed(1)
    return timm.models.vision_transformer.VisionTransformer(
        img_size=size,
        patch_size=8,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        num_classes=7,
        **extra,
    ).state_dict()


def test_image_weights_initialise_divided_attention():
    _, model = make("TimeSformer")
    state = tiny_vit()
    report = load_state(model, state)
    loaded = model.state_dict()
    assert report.source == "ViT (ImageNet, timm)" and report.share == 1.0
    assert torch.equal(loaded["blocks.1.attn.qkv.weight"], state["blocks.1.attn.qkv.weight"])
    assert torch.equal(
        loaded["blocks.1.temporal_attn.qkv.weight"], state["blocks.1.attn.qkv.weight"]
    )
    assert torch.equal(loaded["blocks.2.temporal_norm1.bias"], state["blocks.2.norm1.bias"])
    assert report.head == ["head.weight", "head.bias"]
    assert any("temporal_fc" in name for name in report.new) and report.missing == []
    # all but the first temporal branch are initially zero
    assert (
        not loaded["blocks.1.temporal_fc.weight"].any()
        and loaded["blocks.0.temporal_fc.weight"].any()
    )


def test_an_image_network_of_another_size():
    """The position embedding is resized, nearest neighbour."""
    _, model = make("TimeSformer")
    state = tiny_vit(size=64)
    load_state(model, state)
    grid = state["pos_embed"][:, 1:].unflatten(1, (8, 8))
    assert torch.equal(model.pos_embed[:, 1:].unflatten(1, (4, 4)), grid[:, ::2, ::2])


def test_image_weights_initialise_stam():
    _, model = make("STAM", {"STAM.DEPTH": 3})
    state = tiny_vit()
    report = load_state(model, state)
    assert torch.equal(model.blocks[2].mlp.fc1.weight, state["blocks.2.mlp.fc1.weight"])
    assert all(name.startswith("aggregate.") for name in report.new) and report.share == 1.0


def test_stam_of_another_number_of_frames():
    """Each of twice as many frames starts with the position of the frame that it lies in."""
    _, four = make("STAM", {"DATA.NUM_FRAMES": 4})
    _, eight = make("STAM", {"DATA.NUM_FRAMES": 8})
    report = load_state(eight, four.state_dict())
    assert report.converted == ["aggregate.pos_embed"] and report.share == 1.0
    loaded, trained = eight.aggregate.pos_embed, four.aggregate.pos_embed
    assert torch.equal(loaded, trained[:, [0, 1, 1, 2, 2, 3, 3, 4, 4]])


def test_released_names_of_each_project():
    for name, prefix in (("TimeSformer", "model."), ("STAM", ""), ("MViT", "")):
        _, model = make(name)
        _, other = make(name)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(1)
        released = {prefix + key: value for key, value in other.state_dict().items()}
        report = load_state(model, released, min_match=1.0)
        assert report.source == name and report.share == 1.0
        assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", ["TimeSformer", "MViT"])
def test_last_blocks_initialise_those_behind_stfm(name):
    _, plain = make(name)
    cfg, with_stfm = make(name, {"STFM.ENABLE": True})
    load_state(with_stfm, plain.state_dict(), min_match=0.5)
    start = len(with_stfm.blocks)
    weight = plain.state_dict()[f"blocks.{start}.mlp.fc1.weight"]
    if name == "TimeSformer":  # MViT's last stage has other widths inside
        assert torch.equal(with_stfm.blocks40[0].mlp.fc1.weight, weight)
        assert start == cfg.STFM.INSERT_AFTER + 1 == 2
    assert torch.equal(with_stfm.blocks[0].mlp.fc1.weight, plain.blocks[0].mlp.fc1.weight)


def test_other_clips_than_trained_on():
    """TimeSformer's and STAM's positions, and MViT's relative positions, are resized."""
    for name, frames in (("TimeSformer", 8), ("STAM", 4), ("MViT", 8)):
        _, model = make(name)
        model.eval()
        with torch.no_grad():
            assert model(torch.randn(1, 3, frames, 64, 64)).shape == (1, 5)


@pytest.mark.parametrize(
    "name, extra, message",
    [
        (
            "TimeSformer",
            {"DATA.TRAIN_CROP_SIZE": 36},
            "DATA.TRAIN_CROP_SIZE: 36 is no multiple of TIMESFORMER.PATCH_SIZE 8",
        ),
        ("TimeSformer", {"TIMESFORMER.NUM_HEADS": 5}, "cannot be divided among 5 heads"),
        (
            "TimeSformer",
            {"STFM.ENABLE": True, "STFM.INSERT_AFTER": 2},
            "STFM.INSERT_AFTER: 2 leaves no block of 3",
        ),
        (
            "TimeSformer",
            {"STFM.ENABLE": True, "TIMESFORMER.ATTENTION_TYPE": "space_only"},
            "follows tokens over time",
        ),
        ("TimeSformer", {"STFM.ENABLE": True, "DATA.TEST_CROP_SIZE": 64}, "DATA.TEST_CROP_SIZE"),
        ("MViT", {"DATA.NUM_FRAMES": 5}, "5 frames are no multiple of MVIT.PATCH_STRIDE 2"),
        ("MViT", {"MVIT.MODE": "conv_unshared"}, "MVIT.POOL_FIRST True"),
        ("MViT", {"MVIT.USE_ABS_POS": True, "DATA.TEST_CROP_SIZE": 64}, "absolute positions"),
        (
            "MViT",
            {"MVIT.NUM_HEADS": 3, "MVIT.DIM_MUL_IN_ATT": False},
            "channels cannot be divided among 3 heads",
        ),
        (
            "STAM",
            {"STAM.TEMPORAL_HEADS": 5},
            "STAM.EMBED_DIM: 32 channels cannot be divided among 5",
        ),
    ],
)
def test_what_does_not_fit_is_refused(name, extra, message):
    with pytest.raises(UserError, match=message):
        make(name, extra)


def test_stam_refuses_other_numbers_of_frames():
    _, model = make("STAM")
    with pytest.raises(UserError, match="DATA.NUM_FRAMES: a clip has 6 frames, .* built for 4"):
        model(torch.randn(1, 3, 6, 32, 32))


MEASURED = [  # the specification's figures: M parameters, GFLOPs per view
    ("Kinetics/TimeSformer_divST_8x32_224", 121.6, 196.05),
    ("Kinetics/MVITv2_S_16x4", 34.5, 64.5),
    ("Kinetics/MVIT_B_16x4_CONV", 36.6, 70.8),
    ("Kinetics/STAM_16", 119.2, 281.9),
]


@pytest.mark.parametrize("file, parameters, gflops", MEASURED)
def test_published_sizes(file, parameters, gflops):
    cfg = load_config([ROOT / f"configs/{file}.yaml"], ["NUM_GPUS", "0"])
    size = measure_model(build_model(cfg), cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE)
    assert size.parameters / 1e6 == pytest.approx(parameters, abs=0.06)
    assert size.gflops == pytest.approx(gflops, rel=0.015)


RECIPES = json.loads((ROOT / "tests/data/transformer_configs.json").read_text())
# Paths, machines and names that differ from the published files.
ELSEWHERE = {
    "DATA.PATH_TO_DATA_DIR",
    "NUM_GPUS",
    "DATA.PATH_PREFIX",
    "OUTPUT_DIR",
    "DATA.DECODING_BACKEND",
    "PREFETCH.NUM_LOADERS",
    "MODEL.MODEL_NAME",
    "TRAIN.CHECKPOINT_FILE_PATH",
    "TEST.CHECKPOINT_FILE_PATH",
}


@pytest.mark.parametrize("name", RECIPES)
def test_configuration_has_the_published_values(name):
    cfg = load_config([ROOT / "configs" / name], ["NUM_GPUS", "0"]).flat()
    for key, value in RECIPES[name].items():
        if key not in ELSEWHERE:
            assert cfg[key] == _value(value), key


def _value(value):
    """A recipe's value: some files write numbers and tuples as texts."""
    try:
        value = ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError):
        return value
    return list(value) if isinstance(value, tuple) else value


def published_layer(name, depth):
    """PySlowFast's rule, written out."""
    if name in ("cls_token", "mask_token") or name.startswith(("pos_embed", "patch_embed")):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks.") else depth + 1


@pytest.mark.parametrize("name", ["TimeSformer", "MViT", "STAM"])
def test_layers_are_the_published_ones(name):
    _, model = make(name)
    names = [name for name, _ in model.named_parameters()]
    layers = {name: model.spec.layer_of(model, name) for name in names}
    assert layers == {name: published_layer(name, len(model.blocks)) for name in names}
    assert max(layers.values()) == layers[names[-1]] == len(model.blocks) + 1  # the head


@pytest.mark.parametrize("name", ["TimeSformer", "MViT"])
def test_layers_continue_behind_stfm(name):
    _, model = make(name, {"STFM.ENABLE": True})
    start, total = len(model.blocks), len(model.blocks) + len(model.blocks40)
    layer_of = model.spec.layer_of
    assert layer_of(model, "blocks40.0.mlp.fc1.weight") == start + 1
    assert layer_of(model, f"blocks40.{total - start - 1}.mlp.fc1.weight") == total
    assert layer_of(model, "normF.weight") == layer_of(model, "head.weight") == total + 1
