"""TimeSformer, MViT and STAM: initial weights, other sizes, clear refusals, STFM in them."""

from __future__ import annotations

import ast
import json

import pytest
import timm
import torch

from slowfast.config.load import load_config
from slowfast.layers.pooling_attention import PoolingAttention, PoolingSpec
from slowfast.layers.positions import resize_grid, resize_line, sincos_3d
from slowfast.models import MODEL_REGISTRY, build_model
from slowfast.models.mvit import block_specs, patch_grid, round_width
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


def test_image_weights_start_divided_attention():
    _, model = make("TimeSformer")
    state = tiny_vit()
    report = load_state(model, state)
    own = model.state_dict()
    assert report.source == "ViT (ImageNet, timm)" and report.share == 1.0
    assert torch.equal(own["blocks.1.attn.qkv.weight"], state["blocks.1.attn.qkv.weight"])
    assert torch.equal(own["blocks.1.temporal_attn.qkv.weight"], state["blocks.1.attn.qkv.weight"])
    assert torch.equal(own["blocks.2.temporal_norm1.bias"], state["blocks.2.norm1.bias"])
    assert report.head == ["head.weight", "head.bias"]
    assert any("temporal_fc" in name for name in report.new) and report.missing == []
    # all but the first temporal branch begin by adding nothing
    assert not own["blocks.1.temporal_fc.weight"].any() and own["blocks.0.temporal_fc.weight"].any()


def test_an_image_network_of_another_size():
    """The position embedding is resized, nearest neighbour."""
    _, model = make("TimeSformer")
    state = tiny_vit(size=64)
    load_state(model, state)
    grid = state["pos_embed"][:, 1:].unflatten(1, (8, 8))
    assert torch.equal(model.pos_embed[:, 1:].unflatten(1, (4, 4)), grid[:, ::2, ::2])


def test_image_weights_start_stam():
    _, model = make("STAM", {"STAM.DEPTH": 3})
    state = tiny_vit()
    report = load_state(model, state)
    assert torch.equal(model.blocks[2].mlp.fc1.weight, state["blocks.2.mlp.fc1.weight"])
    assert all(name.startswith("aggregate.") for name in report.new) and report.share == 1.0


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
def test_last_blocks_start_those_behind_stfm(name):
    _, plain = make(name)
    cfg, focused = make(name, {"STFM.ENABLE": True})
    load_state(focused, plain.state_dict(), min_match=0.5)
    start = len(focused.blocks)
    weight = plain.state_dict()[f"blocks.{start}.mlp.fc1.weight"]
    if name == "TimeSformer":  # MViT's last stage has other widths inside
        assert torch.equal(focused.blocks40[0].mlp.fc1.weight, weight)
        assert start == cfg.STFM.INSERT_AFTER + 1 == 2
    assert torch.equal(focused.blocks[0].mlp.fc1.weight, plain.blocks[0].mlp.fc1.weight)


def test_other_clips_than_trained_on():
    """TimeSformer's and STAM's places, and MViT's relative positions, are resized."""
    for name, frames in (("TimeSformer", 8), ("STAM", 4), ("MViT", 8)):
        _, model = make(name)
        model.eval()
        with torch.no_grad():
            assert model(torch.randn(1, 3, frames, 64, 64)).shape == (1, 5)


def test_resizing_repeats_places():
    pos = torch.arange(5.0).view(1, 5, 1)
    assert resize_grid(pos, 2, 2) is pos
    assert resize_grid(pos, 4, 4)[0, 1:, 0].view(4, 4)[0].tolist() == [1, 1, 2, 2]
    line = torch.arange(2.0).view(1, 2, 1)
    assert resize_line(line, 4).flatten().tolist() == [0, 0, 1, 1]


def test_sines_and_cosines():
    pos = sincos_3d(32, 2, 3, class_token=True)
    assert pos.shape == (1, 13, 32) and not pos[0, 0].any()
    grid = pos[0, 1:].unflatten(0, (3, 4))
    assert torch.equal(grid[0, :, 8:], grid[2, :, 8:])  # space does not depend on time
    assert torch.equal(grid[1, 0, :8], grid[1, 3, :8])  # nor time on space
    assert grid[1, 0, 0] == pytest.approx(0.841471, abs=1e-6)  # sin 1, the first frequency


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


def test_reversible_mvit_is_refused():
    with pytest.raises(UserError, match=r"MVIT.REV.ENABLE.*"):
        load_config(
            overrides=["MODEL.MODEL_NAME", "MViT", "MVIT.REV.ENABLE", "True", "NUM_GPUS", "0"]
        )


def test_stam_knows_its_number_of_frames():
    _, model = make("STAM")
    with pytest.raises(UserError, match="DATA.NUM_FRAMES: a clip has 6 frames, .* built for 4"):
        model(torch.randn(1, 3, 6, 32, 32))


@pytest.mark.parametrize("cls", [True, False])
@pytest.mark.parametrize("axes", [(True, True), (True, False), (False, True)])
def test_relative_positions_in_wider_queries(cls, axes, monkeypatch):
    """The scores of wider queries and keys are those with the additions of the paper."""
    spec = PoolingSpec(
        16,
        32,
        2,
        (4, 6, 6),
        (3, 3, 3),
        (3, 3, 3),
        (1, 2, 2),
        (1, 1, 1),
        class_token=cls,
        rel_pos_spatial=axes[0],
        rel_pos_temporal=axes[1],
        residual_pooling=True,
        widen_in_attention=True,
    )
    torch.manual_seed(0)
    attention = PoolingAttention(spec)
    for name, parameter in attention.named_parameters():
        if "rel_pos" in name:
            torch.nn.init.normal_(parameter)
    x = torch.randn(2, 144 + cls, 16)
    results = []
    for as_mask in (False, True):
        monkeypatch.setattr(torch.jit, "is_tracing", lambda as_mask=as_mask: as_mask)
        attention.zero_grad()
        y, grid = attention(x, (4, 6, 6))
        y.square().sum().backward()
        results.append([y.detach(), *(p.grad.clone() for p in attention.parameters())])
        assert grid == (4, 3, 3)
    for ours, published in zip(*results):
        assert torch.allclose(ours, published, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "width, factor, divisor, expected",
    [(96, 2.0, 2, 192), (96, 1.0, 4, 96), (10, 1.5, 4, 16), (7, 1.0, 8, 8)],
)
def test_widths(width, factor, divisor, expected):
    assert round_width(width, factor, divisor) == expected


def test_blocks_of_mvitv2_s():
    """Hand-read from the published table: widths, heads, key and value strides."""
    cfg = load_config([ROOT / "configs/Kinetics/MVITv2_S_16x4.yaml"], ["NUM_GPUS", "0"])
    specs = block_specs(cfg.MVIT, patch_grid(cfg))
    assert [s.dim_out for s in specs[:4]] == [96, 192, 192, 384] and specs[-1].dim_out == 768
    assert [s.heads for s in specs] == [1, 2, 2] + [4] * 11 + [8] * 2
    assert [s.stride_kv for s in specs[:4]] == [(1, 8, 8), (1, 4, 4), (1, 4, 4), (1, 2, 2)]
    assert specs[-1].stride_kv == (1, 1, 1) and specs[-1].grid == (8, 7, 7)


MEASURED = [  # the specification's figures: M parameters, GFLOPs per view
    ("Kinetics/TimeSformer_divST_8x32_224", 121.6, 196.05),
    ("Kinetics/MVITv2_S_16x4", 34.5, 64.5),
    ("Kinetics/MVIT_B_16x4_CONV", 36.6, 70.8),
    ("Kinetics/STAM_16", 119.2, 281.9),
]


@pytest.mark.parametrize("file, parameters, gflops", MEASURED)
def test_published_sizes(file, parameters, gflops):
    cfg = load_config([ROOT / f"configs/{file}.yaml"], ["NUM_GPUS", "0"])
    size = measure_model(build_model(cfg), cfg)
    assert size.parameters / 1e6 == pytest.approx(parameters, abs=0.06)
    assert size.gflops == pytest.approx(gflops, rel=0.015)


RECIPES = json.loads((ROOT / "tests/data/transformer_configs.json").read_text())
# Where a run is, and what is not kept from there.
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
    "TRAIN.ENABLE",
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
