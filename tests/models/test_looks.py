"""Where networks look: recorded attention, the way back to the clip, Grad-CAM, tokens of STFM."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from slowfast.config.load import load_config
from slowfast.layers import stfm
from slowfast.layers.attention import Attention
from slowfast.models import MODEL_REGISTRY
from slowfast.models.build import build_model
from slowfast.models.clip.blocks import CLIP_BLOCK_REGISTRY, ClipBlock
from slowfast.models.looks import look
from slowfast.models.looks.cam import grad_cam, last_map
from slowfast.models.looks.clip import trace_block
from slowfast.models.looks.record import ForwardRecord, attention_weights
from slowfast.models.looks.trace import Trace, first_token, unpool
from slowfast.utils.errors import UserError
from tests.conftest import words

SHAPE = (2, 3, 4, 32, 32)
ATTENTION = ("Uniformer", "TimeSformer", "MViT", "ReversibleMViT", "STAM", "TemporalClipVideo")
KINDS = [
    (name, extra)
    for name in ATTENTION
    for extra in (
        [{}, {"STFM.ENABLE": True}] if name in ("Uniformer", "TimeSformer", "MViT") else [{}]
    )
] + [
    ("Uniformer", {"UNIFORMER.SPLIT": True}),
    ("TimeSformer", {"TIMESFORMER.ATTENTION_TYPE": "joint_space_time"}),
    ("TimeSformer", {"TIMESFORMER.ATTENTION_TYPE": "space_only"}),
    ("MViT", {"MVIT.CLS_EMBED_ON": False}),
    ("MViT", {"MVIT.USE_MEAN_POOLING": True, "MVIT.USE_ABS_POS": True}),
    ("STAM", {"STAM.AGGREGATION": "mean"}),
]


def build(name: str, extra: dict | None = None) -> nn.Module:
    torch.manual_seed(0)
    values = {"MODEL.MODEL_NAME": name, "NUM_GPUS": 0, "MODEL.NUM_CLASSES": 4}
    values |= dict(MODEL_REGISTRY.get(name).spec.test_overrides) | (extra or {})
    model = build_model(load_config([], words(values))).eval()
    if model.spec.open_vocabulary:
        model.set_classes(["a", "b", "c", "d"])
        model.begin("test")
    return model


def clip(seed: int = 0) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


# -- the record ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": torch.tensor([[0.0, -1.0, 2.0]] * 3)},
        {"attn_mask": torch.tensor([[True, False, True]] * 3)},
    ],
)
def test_weights_are_those_of_pytorchs_attention(options: dict):
    q, k, v = torch.randn(3, 2, 4, 3, 8).unbind(0)
    weights = attention_weights(q, k, **options)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 3))
    expected = F.scaled_dot_product_attention(q, k, v, **options)
    torch.testing.assert_close(weights @ v, expected)


class _EveryCall(TorchFunctionMode):
    """Compares the weights of every attention inside a network with what it computed."""

    calls = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            q, k, v = args
            options = {n: kwargs[n] for n in ("is_causal", "scale") if n in kwargs}
            weights = attention_weights(q, k, **options)
            torch.testing.assert_close(weights @ v, output, atol=1e-5, rtol=1e-4)
            self.calls += 1
        return output


@pytest.mark.parametrize("name, extra", KINDS)
def test_weighted_values_are_the_output_of_each_layer(name: str, extra: dict):
    with torch.no_grad(), _EveryCall() as seen:
        build(name, extra)(clip())
    assert seen.calls


@pytest.mark.parametrize("name, extra", KINDS)
def test_record_does_not_change_the_network(name: str, extra: dict):
    model = build(name, extra)
    record, logits = ForwardRecord.of(model, clip())
    with torch.no_grad():
        expected = model(clip())
    if name == "STAM":  # PyTorch's encoder takes another kernel while it is watched
        torch.testing.assert_close(logits, expected)
    else:
        assert torch.equal(logits, expected)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    for weights in (w for calls in record.attention.values() for w in calls):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_weights_stand_under_the_layer_that_computed_them():
    model = nn.Sequential(Attention(8, 2), Attention(8, 2))
    x = torch.randn(2, 5, 8)
    record = ForwardRecord(model)
    with record.watching(), torch.no_grad():
        model(x)
    q, k, _ = model[0].qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    expected = attention_weights(q, k).mean(1)
    torch.testing.assert_close(record.attention["0"][0], expected)
    assert set(record.attention) == {"0", "1"}


# -- the way back ----------------------------------------------------------------------------


def fake(attention: dict[str, torch.Tensor], rollout: bool = True, layer: str = "") -> Trace:
    record = SimpleNamespace(attention={name: [w] for name, w in attention.items()})
    return Trace(record, rollout, layer)


def random_weights(rows: int, queries: int, keys: int | None = None) -> torch.Tensor:
    return torch.randn(rows, queries, keys or queries).softmax(-1)


def test_rollout_by_hand():
    first = torch.tensor([[[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.2, 0.2, 0.6]]])
    second = torch.tensor([[[0.0, 0.4, 0.6], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    trace = fake({"0.attn": first, "1.attn": second})
    shares = first_token(1, 3)
    for name in trace.backwards(["0", "1"]):
        shares = trace.through(shares, f"{name}.attn")
    # Second layer: [0.5, 0.2, 0.3]. First: half of it, plus half of it times the weights.
    by_hand = [0.25 + 0.125 + 0.03, 0.1 + 0.125 + 0.1 + 0.03, 0.15 + 0.09]
    torch.testing.assert_close(shares, torch.tensor([by_hand]))
    assert trace.used == ["1", "0"]


def test_attention_of_one_block():
    weights = {"a.0.attn": random_weights(1, 3), "a.1.attn": random_weights(1, 3)}
    for layer, used in (("", "a.1"), ("0", "a.0"), ("a.1", "a.1")):
        trace, shares = fake(weights, rollout=False, layer=layer), first_token(1, 3)
        for name in trace.backwards(["a.0", "a.1"]):
            shares = trace.through(shares, f"{name}.attn")
        torch.testing.assert_close(shares, weights[f"{used}.attn"][:, 0])
        trace.check()
    trace = fake(weights, layer="7")
    assert list(trace.backwards(["a.0", "a.1"])) == ["a.1", "a.0"]
    with pytest.raises(UserError, match=r"one of a\.0, a\.1"):
        trace.check()


def test_divided_attention_equals_its_full_matrices():
    """TimeSformer, B 1, S 4, T 3: every block as one matrix over all 1 + S*T tokens."""
    s, t = 4, 3
    model = build("TimeSformer", {"DATA.NUM_FRAMES": t, "TIMESFORMER.PATCH_SIZE": 16})
    record, _ = ForwardRecord.of(model, clip()[:1, :, :t])
    shares = first_token(1, 1 + s * t)
    for block in (2, 1, 0):
        space = record.attention[f"blocks.{block}.attn"][0]  # T 1+S 1+S
        time = record.attention[f"blocks.{block}.temporal_attn"][0]  # S T T
        full_time, full_space = torch.eye(1 + s * t), torch.zeros(1 + s * t, 1 + s * t)
        for place in range(s):
            rows = slice(1 + place * t, 1 + (place + 1) * t)
            full_time[rows, rows] = time[place]
        for frame in range(t):
            index = [0, *(1 + place * t + frame for place in range(s))]
            for row, query in enumerate(index):
                # The class token's result is the mean over the frames.
                weight = 1 / t if query == 0 else 1.0
                for column, key in enumerate(index):
                    full_space[query, key] += weight * space[frame, row, column]
        eye = torch.eye(1 + s * t)
        shares = shares @ (0.5 * eye + 0.5 * full_space) @ (0.5 * eye + 0.5 * full_time)
    maps = model.attention_map(Trace(record, rollout=True), (1, 3, t, 32, 32))
    expected = shares[0, 1:].view(2, 2, t).permute(2, 0, 1)
    torch.testing.assert_close(maps[0], expected)


def test_pooled_shares_are_divided_among_what_they_stand_for():
    shares = torch.tensor([[[[0.25, 0.75]]]])
    torch.testing.assert_close(
        unpool(shares, (1, 2, 4))[0, 0], torch.tensor([[0.0625, 0.0625, 0.1875, 0.1875]] * 2)
    )
    uneven = unpool(torch.rand(2, 2, 3, 3), (3, 7, 5))
    assert uneven.shape == (2, 3, 7, 5)


def test_frames_of_stam_by_hand():
    model = build("STAM")
    record, _ = ForwardRecord.of(model, clip()[:1])
    maps = model.attention_map(Trace(record, rollout=False), (1, *SHAPE[1:]))
    over_time = record.attention["aggregate.transformer_enc.layers.0.self_attn"][0][0, 0, 1:]
    over_space = record.attention["blocks.1.attn"][0][:, 0, 1:]  # T S
    torch.testing.assert_close(maps[0].flatten(1), over_time[:, None] * over_space)


@pytest.mark.parametrize("kind", sorted(set(CLIP_BLOCK_REGISTRY) - {"channel_shift"}))
def test_every_kind_of_temporal_modelling(kind: str):
    model = build("TemporalClipVideo", {"MODEL.TEMPORAL_MODELING_TYPE": kind})
    for method in ("attention", "rollout"):
        seen = look(model, clip(), method=method)
        assert seen.shares.shape == (2, 4, 4, 4) and (seen.shares >= 0).all()
        torch.testing.assert_close(seen.shares.sum((1, 2, 3)), torch.ones(2))


def test_scrambled_positions_are_refused():
    model = build("TemporalClipVideo", {"MODEL.TEMPORAL_MODELING_TYPE": "channel_shift"})
    with pytest.raises(UserError, match="gradcam"):
        look(model, clip())
    assert look(model, clip(), method="gradcam").layers == ["model.visual.conv1"]


def test_neighbouring_frames_get_their_shares():
    """All attention of frame 0 lies on patch 3 of the next frame."""
    block = CLIP_BLOCK_REGISTRY.get("expand_temporal_view")(64)
    frames, tokens = 3, 5
    weights = torch.zeros(frames, tokens, 3 * tokens)
    weights[0, :, 3] = 1  # keys: next frame, previous frame, own
    weights[1, :, tokens + 2] = 1
    weights[2, :, 2 * tokens + 4] = 1
    trace = fake({"b.attn": weights}, rollout=False)
    (name,) = trace.backwards(["b"])
    shares = trace_block(block, trace, name, first_token(frames, tokens, 1 / frames), frames)
    expected = torch.zeros(frames, tokens)
    expected[1, 3] = expected[0, 2] = expected[2, 4] = 1 / frames
    torch.testing.assert_close(shares, expected)


def test_messages_lead_to_the_class_tokens_of_all_frames():
    block = CLIP_BLOCK_REGISTRY.get("cross_frame_attend")(64)
    weights = torch.zeros(2, 4, 4)
    weights[:, :, 3] = 1  # only the message is read
    messages = torch.tensor([[[0.25, 0.75], [0.25, 0.75]]])
    trace = fake({"b.attn": weights, "b.message_attn": messages}, rollout=False)
    (name,) = trace.backwards(["b"])
    shares = trace_block(block, trace, name, first_token(2, 3, 0.5), 2)
    torch.testing.assert_close(shares, torch.tensor([[0.25, 0, 0], [0.75, 0, 0]]))


def test_a_block_of_ones_own_is_a_plain_one():
    class Mine(ClipBlock):
        pass

    weights = random_weights(2, 4)
    trace = fake({"b.attn": weights}, rollout=False)
    (name,) = trace.backwards(["b"])
    shares = trace_block(Mine(64), trace, name, first_token(2, 4), 2)
    torch.testing.assert_close(shares, weights[:, 0])


# -- STFM ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Uniformer", "TimeSformer", "MViT"])
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("selection", ["hard", "straight_through"])
def test_tokens_are_those_that_the_network_used(
    name: str, dense: bool, selection: str, monkeypatch: pytest.MonkeyPatch
):
    used = []
    rows = stfm._rows
    monkeypatch.setattr(stfm, "_rows", lambda values, i: used.append(i) or rows(values, i))
    keys = {"STFM.ENABLE": True, "STFM.DENSE": dense, "STFM.SELECTION": selection}
    model = build(name, keys)
    seen = look(model, clip())
    first, later = used[:2]
    index = torch.cat([first[:, None], later], dim=1)
    stride, side = (4, 5) if dense else (16, 2)
    assert index.max() < side**2
    expected = torch.stack([index % side * stride + 8, index // side * stride + 8], dim=-1)
    assert torch.equal(seen.tokens.centres, expected)
    frames = seen.tokens.centres.shape[1]
    assert list(seen.tokens.frames) == [t * 4 // frames for t in range(frames)]


def test_shares_of_tokens_lie_on_their_patches():
    model = build("Uniformer", {"STFM.ENABLE": True, "STFM.DENSE": True})
    seen = look(model, clip(), method="rollout")
    assert seen.shares.shape == (2, 2, 8, 8)  # cells of 4 x 4 pixels
    expected = torch.zeros_like(seen.shares)
    for b, t, n in torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(3)):
        x, y = ((seen.tokens.centres[b, t, n] - 8) // 4).tolist()
        expected[b, t, y : y + 4, x : x + 4] += seen.tokens.shares[b, t, n] / 16
    torch.testing.assert_close(seen.shares, expected)


# -- Grad-CAM --------------------------------------------------------------------------------


def test_grad_cam_by_hand():
    model = build("ResNet3D", {"DATA.TRAIN_CROP_SIZE": 64, "DATA.TEST_CROP_SIZE": 64})
    model.requires_grad_(False)  # as in a predictor
    video = torch.randn(2, 3, 8, 64, 64)
    seen = grad_cam(model, video, torch.tensor([1, 3]), ["layer4"])
    with torch.no_grad():
        maps = model.feature_maps(video)
    # The mean of the maps and a linear layer: a channel's weight is that of the layer.
    weight = model.fc.weight[[1, 3]]
    expected = torch.einsum("bcthw,bc->bthw", maps, weight).relu()
    expected = expected / expected.sum((1, 2, 3), keepdim=True).clamp_min(1e-30)
    torch.testing.assert_close(seen, expected)


@pytest.mark.parametrize(
    "name, layer",
    [
        ("ResNet3D", "layer3"),  # layer4 has one position in a crop of 32
        ("TSN", "base_model.blocks.4.0.bn1"),
        ("FrameAverage", "body"),
        ("TimeSformer", "patch_embed.proj"),
        ("Uniformer", "blocks3.0"),
    ],
)
def test_the_last_map_of_a_network(name: str, layer: str):
    record, _ = ForwardRecord.of(build(name), clip())
    assert last_map(record, SHAPE) == layer


def test_pathways_are_averaged():
    model = build("ResNet3D")
    target = torch.tensor([0, 1])
    parts = [grad_cam(model, clip(), target, [name]) for name in ("layer1", "layer2")]
    both = grad_cam(model, clip(), target, ["layer1", "layer2"])
    finer = F.interpolate(parts[1][:, None], parts[0].shape[1:], mode="trilinear")[:, 0]
    finer = finer / finer.sum((1, 2, 3), keepdim=True)
    expected = parts[0] + finer  # a map may be empty
    expected = expected / expected.sum((1, 2, 3), keepdim=True)
    torch.testing.assert_close(both, expected)


def test_both_pathways_of_slowfast_are_shown():
    seen = look(build("SlowFast"), clip())
    assert seen.layers == ["s5.pathway0_res1", "s5.pathway1_res1"]
    assert seen.shares.shape[1] == 4  # frames of the fast pathway


def test_missing_captum_is_named(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(UserError, match=r"captum.*\n.*\[looks\]"):
        look(build("ResNet3D"), clip())


# -- look ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(MODEL_REGISTRY))
def test_every_network_takes_part(name: str):
    model = build(name)
    with torch.inference_mode():
        video = clip()  # as a predictor gives it
    seen = look(model, video)
    assert seen.method == ("attention" if name in ATTENTION else "gradcam")
    assert seen.maps.shape == (2, 4, 32, 32) and seen.maps.min() >= 0 and seen.maps.max() <= 1
    assert torch.equal(seen.target, seen.logits.argmax(-1))
    total = seen.shares.sum((1, 2, 3))
    assert ((total - 1).abs() < 1e-4).logical_or(total == 0).all()


def test_wrong_words_are_explained():
    model = build("ResNet3D")
    for options, text in (
        ({"method": "lime"}, "attention, rollout"),
        ({"method": "rollout"}, "choose --method gradcam"),
        ({"method": "gradcam", "layers": ["layer9"]}, "did you mean layer"),
        ({"method": "gradcam", "layers": ["fc"]}, "choose a convolutional layer"),
    ):
        with pytest.raises(UserError, match=text):
            look(model, clip(), **options)
    with pytest.raises(UserError, match="no block with attention"):
        look(build("STAM"), clip(), layers=["norm"])
    assert look(build("STAM"), clip(), layers=["blocks/0"]).layers[0] == "blocks.0"
