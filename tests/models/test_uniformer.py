"""UniFormer and STFM: sizes, options, gradients."""

from __future__ import annotations

import pytest
import torch

from slowfast.config.load import load_config
from slowfast.models import build_model
from slowfast.models.summary import measure_model
from slowfast.models.uniformer import Uniformer
from tests.models.helpers import build, clips

S = ["UNIFORMER.DEPTH", "[3, 4, 8, 3]"]
B = ["UNIFORMER.DEPTH", "[5, 8, 20, 7]"]
STFM = ["STFM.ENABLE", "True", "DATA.TEST_CROP_SIZE", "224"]


@pytest.mark.parametrize(
    "words, frames, parameters, gflops",
    [
        (S, 16, 21.4, 41.8),
        (B, 32, 49.8, 258.6),
        (S + STFM + ["STFM.NUM_TOKENS", "16"], 16, 38.3, 123.8),
        (B + STFM, 16, 67.1, 188.2),
    ],
)
def test_published_sizes(words, frames, parameters, gflops):
    cfg = load_config(overrides=[*words, "NUM_GPUS", "0", "DATA.NUM_FRAMES", str(frames)])
    size = measure_model(build_model(cfg), cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE)
    assert round(size.parameters / 1e6, 1) == parameters
    assert size.gflops == pytest.approx(gflops, rel=0.01)


def test_drop_path_grows_to_its_rate():
    _, model = build("Uniformer", {"UNIFORMER.DROP_DEPTH_RATE": 0.3})
    rates = [
        getattr(b.drop_path, "drop_prob", 0.0)
        for s in range(1, 5)
        for b in getattr(model, f"blocks{s}")
    ]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    "extra",
    [
        {"MODEL.ACT_CHECKPOINT": True},
        {"MODEL.USE_CHECKPOINT": True, "MODEL.CHECKPOINT_NUM": [1, 0, 1, 1]},
    ],
)
@pytest.mark.parametrize("stfm", [False, True])
def test_checkpointing_changes_nothing(extra, stfm):
    shared = {"UNIFORMER.DROP_DEPTH_RATE": 0.0, "STFM.ENABLE": stfm}
    gradients = []
    for more in ({}, extra):
        cfg, model = build("Uniformer", shared | more)
        model(clips(cfg)).square().mean().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    for a, b in zip(*gradients):
        assert torch.allclose(a, b, atol=1e-6)


def test_split_block_is_initially_the_identity_over_time():
    _, model = build("Uniformer", {"UNIFORMER.SPLIT": True})
    attention = model.blocks3[0].t_attn
    assert attention.qkv.weight.abs().sum() == 0
    assert (attention.proj.weight == 1).all() and attention.proj.bias.abs().sum() == 0


def test_hard_selection_trains_no_selector_and_soft_does():
    for selection, trained in (("hard", False), ("straight_through", True)):
        cfg, model = build("Uniformer", {"STFM.ENABLE": True, "STFM.SELECTION": selection})
        model(clips(cfg)).square().mean().backward()
        parameters = dict(model.named_parameters())
        for name in ("stfm.tokenselector.select.0.weight", "stfm.chain.proj.fc1.weight"):
            gradient = parameters[name].grad
            assert (gradient is not None and gradient.abs().sum() > 0) == trained, name


def test_both_selections_see_the_same():
    outputs = []
    for selection in ("hard", "straight_through"):
        cfg, model = build("Uniformer", {"STFM.ENABLE": True, "STFM.SELECTION": selection})
        model.eval()
        outputs += [model(clips(cfg)).detach()]  # with gradients on: the trained path
    assert torch.allclose(*outputs, atol=1e-5)


def test_the_distance_loss_is_added_only_with_its_key():
    cfg, model = build("Uniformer", {"STFM.ENABLE": True})
    assert model(clips(cfg), with_losses=True)[1] == {}
    cfg, model = build("Uniformer", {"STFM.ENABLE": True, "STFM.SIMILAR_LOSS": True})
    assert model(clips(cfg), with_losses=True)[1]["similar_loss"] > 0


def test_finetuning_trains_the_published_parts():
    _, model = build("Uniformer", {"STFM.ENABLE": True, "MODEL.FINETUNNING": True})
    trained = {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"stfm", "blocks40", "normF", "head"}


def test_bfloat16_gradients_on_the_cpu():
    """PyTorch's bfloat16 depthwise gradients were 1e+32 in one of ten batches."""
    cfg, model = build("Uniformer", {"UNIFORMER.DROP_DEPTH_RATE": 0.0})
    for seed in range(25):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(clips(cfg, 16, seed))
        torch.nn.functional.cross_entropy(logits.float(), torch.arange(16) % 5).backward()
        assert max(p.grad.abs().max() for p in model.parameters()) < 10, seed


def test_frame_average_is_blind_to_order():
    cfg, model = build("FrameAverage")
    model.eval()
    video = clips(cfg)
    with torch.no_grad():
        assert torch.allclose(model(video), model(video.flip(2)), atol=1e-6)


def test_layers_count_over_the_stages():
    for stfm in (False, True):
        _, model = build("Uniformer", {"UNIFORMER.DEPTH": [1, 2, 1, 2], "STFM.ENABLE": stfm})
        layer_of = model.spec.layer_of
        last = "blocks40" if stfm else "blocks4"
        expected = {
            "patch_embed1.proj.weight": 0,
            "blocks1.0.attn.weight": 1,
            "patch_embed2.norm.bias": 2,
            "blocks2.0.attn.weight": 2,
            "blocks2.1.attn.weight": 3,
            "patch_embed3.norm.bias": 4,
            "blocks3.0.attn.qkv.weight": 4,
            f"{last}.0.attn.qkv.weight": 5,
            f"{last}.1.mlp.fc1.bias": 6,
            "head.weight": 7,
        }
        expected |= {"normF.weight": 7} if stfm else {"patch_embed4.norm.bias": 5, "norm.weight": 7}
        names = dict(model.named_parameters())
        for name, layer in expected.items():
            assert name in names and layer_of(model, name) == layer, name
        assert {layer_of(model, name) for name in names} == set(range(8))


def test_a_plain_constructor_builds_a_network():
    model = Uniformer(num_classes=3, depth=(1, 1, 1, 1), embed_dim=(8, 16, 32, 32), head_dim=16)
    assert model(torch.randn(2, 3, 4, 32, 32)).shape == (2, 3)
    with pytest.raises(TypeError, match="colour"):
        Uniformer(colour="red")
