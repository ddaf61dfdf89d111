"""The reversible MViT: the shipped configuration, and gradients as without recomputation."""

from __future__ import annotations

import pytest
import torch

from slowfast.config.load import load_config
from slowfast.layers.reversible import ReversibleBlock, StageTransition
from slowfast.models.build import build_model
from slowfast.models.rev_mvit import ReversibleMViT
from slowfast.utils.errors import UserError
from tests.models.helpers import build, clips

TINY = {
    "MODEL.MODEL_NAME": "MViT",
    "MODEL.NUM_CLASSES": 5,
    "MVIT.REV.ENABLE": True,
    "MVIT.REV.BUFFER_LAYERS": [1, 3],
    "MVIT.DEPTH": 5,
    "MVIT.EMBED_DIM": 16,
    "MVIT.DIM_MUL": [[1, 2.0], [3, 2.0]],
    "MVIT.HEAD_MUL": [[1, 2.0], [3, 2.0]],
    "MVIT.POOL_Q_STRIDE": [[1, 1, 2, 2], [3, 1, 2, 2]],
    "MVIT.POOL_KV_STRIDE_ADAPTIVE": [1, 4, 4],
    "MVIT.POOL_KVQ_KERNEL": [3, 3, 3],
    "MVIT.PATCH_PADDING": [1, 3, 3],
    "DATA.NUM_FRAMES": 4,
    "DATA.TRAIN_CROP_SIZE": 32,
    "DATA.TEST_CROP_SIZE": 32,
    "NUM_GPUS": 0,
}


def load(**extra):
    return load_config(overrides=TINY | extra)


def test_class_token_is_left_out_with_a_warning(caplog):
    """As the file that PySlowFast ships, which sets MVIT.CLS_EMBED_ON True."""
    model = build_model(load(**{"MVIT.CLS_EMBED_ON": True}))
    assert isinstance(model, ReversibleMViT) and not hasattr(model, "cls_token")
    assert "has no class token" in caplog.text
    kinds = [type(layer) for layer in model.rev_backbone.layers]
    assert [kind is StageTransition for kind in kinds] == [False, True, False, True, False]
    assert kinds[0] is ReversibleBlock


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"MVIT.DROPPATH_RATE": 0.5, "MVIT.DROPOUT_RATE": 0.2},
        {"MVIT.REV.PRE_Q_FUSION": "concat_linear_2", "MVIT.USE_MEAN_POOLING": True},
        {"MVIT.REV.PRE_Q_FUSION": "concat", "MVIT.REV.RESPATH_FUSE": "avg"},
    ],
)
def test_gradients_are_those_of_the_stored_computation(extra):
    model = build_model(load(**{"MVIT.CLS_EMBED_ON": False} | extra)).double().train()
    video = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0)).double()

    def run(stored):
        model.stored_activations = stored
        model.zero_grad()
        torch.manual_seed(1)
        logits = model(video)
        logits.square().sum().backward()
        return logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}

    (ours, gradients), (plain, expected) = run(False), run(True)
    assert torch.equal(ours, plain)
    for name, value in gradients.items():
        assert torch.allclose(value, expected[name], rtol=1e-7, atol=1e-13), name


def test_a_vit_is_one_run():
    """REV_VIT of PySlowFast: patches of images, no stage at all."""
    extra = {"MVIT.PATCH_2D": True, "DATA.NUM_FRAMES": 1, "MVIT.CLS_EMBED_ON": False}
    extra |= {f"MVIT.PATCH_{name}": [8, 8] for name in ("KERNEL", "STRIDE")}
    extra |= {"MVIT.PATCH_PADDING": [0, 0], "MVIT.POOL_KV_STRIDE_ADAPTIVE": None}
    extra |= {f"MVIT.{name}": [] for name in ("DIM_MUL", "HEAD_MUL", "POOL_Q_STRIDE")}
    model = build_model(load(**extra | {"MVIT.REV.BUFFER_LAYERS": []}))
    assert model(torch.randn(2, 3, 1, 32, 32)).shape == (2, 5)
    assert all(isinstance(layer, ReversibleBlock) for layer in model.rev_backbone.layers)


@pytest.mark.parametrize(
    "extra, message",
    [
        ({"MVIT.REV.BUFFER_LAYERS": [1]}, r"block 3 changes grid or width"),
        ({"MVIT.REV.BUFFER_LAYERS": [1, 3, 9]}, "the last block is 4"),
        ({"MVIT.REV.PRE_Q_FUSION": "sum"}, "no fusion of two streams"),
        ({"STFM.ENABLE": True}, "no reversible form"),
    ],
)
def test_what_cannot_be_reversible(extra, message):
    with pytest.raises(UserError, match=message):
        load(**extra)


def test_layers_of_parameters():
    _, model = build("ReversibleMViT")
    layer_of = model.spec.layer_of
    assert layer_of(model, "patch_embed.proj.weight") == 0
    assert layer_of(model, "rev_backbone.layers.2.F.norm.weight") == 3
    assert layer_of(model, "head.projection.weight") == len(model.rev_backbone.layers) + 1


def test_published_weights_are_recognised():
    from slowfast.models.weights.sources import detect_source

    cfg, model = build("ReversibleMViT")
    assert detect_source(model.state_dict()).name == "reversible MViT"
    assert model(clips(cfg, 2)).shape == (2, cfg.MODEL.NUM_CLASSES)


def test_gradients_in_bfloat16_are_those_of_stored_activations():
    """Also where a whole clip was dropped at a transition: its tokens are zero, and a norm enlarges
    any error in them."""
    cfg, model = build("ReversibleMViT", {"MVIT.DROPPATH_RATE": 0.3})
    video = torch.randn(2, 3, cfg.DATA.NUM_FRAMES, 32, 32)
    gradients = []
    for stored in (True, False):
        model.stored_activations = stored
        model.zero_grad()
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model.train()(video)
        logits.float().logsumexp(-1).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    expected, found = gradients
    largest = max(value.norm() for value in expected.values())
    assert all((found[name] - expected[name]).norm() < 1e-4 * largest for name in expected)
