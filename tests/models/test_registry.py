"""Every registered model: build, run, learn, save, load. New models are tested by being there."""

from __future__ import annotations

import pytest
import torch
import torch._dynamo

from slowfast.config.load import load_config
from slowfast.engine.network import build_network
from slowfast.layers.consensus import HEADS
from slowfast.models import MODEL_REGISTRY
from slowfast.models.build import set_train_mode
from slowfast.models.clip.blocks import CLIP_BLOCK_REGISTRY
from slowfast.models.summary import measure_model
from tests.conftest import words

NAMES = sorted(MODEL_REGISTRY)
VARIANTS = [(name, {}) for name in NAMES] + [
    ("Uniformer", {"STFM.ENABLE": True, "STFM.SELECTION": "hard"}),
    ("Uniformer", {"STFM.ENABLE": True, "STFM.SELECTION": "straight_through", "STFM.DENSE": False}),
    ("Uniformer", {"UNIFORMER.SPLIT": True, "UNIFORMER.REPRESENTATION_SIZE": 24}),
    ("TimeSformer", {"TIMESFORMER.ATTENTION_TYPE": "joint_space_time"}),
    ("TimeSformer", {"TIMESFORMER.ATTENTION_TYPE": "space_only"}),
    ("TimeSformer", {"STFM.ENABLE": True, "STFM.SELECTION": "straight_through"}),
    ("TimeSformer", {"STFM.ENABLE": True, "STFM.DENSE": False}),
    ("MViT", {"STFM.ENABLE": True, "STFM.SELECTION": "straight_through"}),
    ("MViT", {"MVIT.CLS_EMBED_ON": False, "MVIT.LAYER_SCALE_INIT_VALUE": 0.1, "MVIT.MODE": "max"}),
    (
        "MViT",
        {
            "MVIT.DIM_MUL_IN_ATT": False,
            "MVIT.USE_ABS_POS": True,
            "MVIT.SEP_POS_EMBED": True,
            "MVIT.REL_POS_SPATIAL": False,
            "MVIT.REL_POS_TEMPORAL": False,
            "MVIT.USE_MEAN_POOLING": True,
            "MVIT.MODE": "avg",
            "MVIT.POOL_KVQ_KERNEL": None,
        },
    ),
    ("MViT", {"MVIT.POOL_FIRST": True, "MVIT.MODE": "conv_unshared", "MVIT.NORM_STEM": True}),
    ("MViT", {"MVIT.EMBED_DIM": 32, "MVIT.USE_ABS_POS": True, "MVIT.USE_FIXED_SINCOS_POS": True}),
    *[
        ("TemporalClipVideo", {"MODEL.TEMPORAL_MODELING_TYPE": kind})
        for kind in CLIP_BLOCK_REGISTRY
        if kind not in ("None", "expand_temporal_view")
    ],
    (
        "TemporalClipVideo",
        {
            "MODEL.KEEP_RAW_MODEL": True,
            "MODEL.RAW_MODEL_DISTILLATION": True,
            "MODEL.TEMPORAL_SHUFFLE": False,
        },
    ),
    ("TemporalClipVideo", {"MODEL.TEXT_PROMPT": True, "MODEL.PROMPT_NUM": 3}),
    ("TemporalClipVideo", {"TUNE_HEAD": True, "CLIP.ACTIVATION": "gelu"}),
    ("TemporalClipVideo", {"CLIP.TRAINED": ["visual", "text_projection", "text", "logit_scale"]}),
    ("STAM", {"STAM.AGGREGATION": "mean"}),
    ("STAM", {"STAM.INIT": "scratch"}),
    ("TimeSformer", {"TIMESFORMER.INIT": "scratch"}),
    *[("TSN", {"TSN.CONSENSUS": kind, "TSN.LAYERS": 2}) for kind in HEADS],
    ("TSN", {"TSN.CONSENSUS": "TRNmultiscale", "TSN.TRN_EVAL_ALL": True}),
    ("TSN", {"TSN.BACKBONE": "squeezenet1_1", "TSN.CONSENSUS": "MLP"}),
    ("TSN", {"TSN.BACKBONE": "BNInception", "TSN.CONSENSUS": "FCN2D"}),
    ("Uniformer", {"UNIFORMER.STD": True, "UNIFORMER.QKV_SCALE": 0.2, "UNIFORMER.QKV_BIAS": False}),
]


def build(name, extra=None, seed=0):
    tiny = {"NUM_GPUS": 0, "MODEL.NUM_CLASSES": 5, "MODEL.MODEL_NAME": name}
    cfg = load_config(
        overrides=words(tiny | MODEL_REGISTRY.get(name).spec.test_overrides | (extra or {}))
    )
    torch.manual_seed(seed)
    model = build_network(cfg)
    model.begin("train")
    return cfg, model


def to_eval(model):
    """``model`` in evaluation mode, with everything computed that does not depend on clips."""
    model.eval().begin("test")
    return model


def clips(cfg, batch=2, seed=1):
    size = cfg.DATA.TRAIN_CROP_SIZE
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, cfg.DATA.NUM_FRAMES, size, size, generator=generator)


@pytest.mark.parametrize("name, extra", VARIANTS)
def test_builds_runs_and_learns(name, extra):
    cfg, model = build(name, extra | {"UNIFORMER.DROP_DEPTH_RATE": 0.0})
    video, labels = clips(cfg, 4), torch.tensor([0, 1, 2, 3])
    logits, losses = model(video, with_losses=True)
    assert logits.shape == (4, 5) and torch.isfinite(logits).all()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    history = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(model(video), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.7 * history[0]


@pytest.mark.parametrize("name, extra", VARIANTS)
def test_clips_do_not_see_each_other(name, extra):
    cfg, model = build(name, extra)
    to_eval(model)
    video = clips(cfg, 3)
    with torch.no_grad():
        together, alone = model(video), model(video[1:2])
    assert torch.allclose(together[1:2], alone, atol=1e-5)


@pytest.mark.parametrize("name, extra", [v for v in VARIANTS if "stcross_attend" not in str(v)])
def test_gradients_of_clips_add_up(name, extra):
    """The gradient of a batch is that of its clips one by one (frozen statistics).

    STDD draws its patches anew for every clip: it has no such gradient.
    """
    cfg, model = build(name, extra | {"UNIFORMER.DROP_DEPTH_RATE": 0.0})
    set_train_mode(model, frozen_bn=True)
    video, labels = clips(cfg, 3), torch.tensor([0, 1, 2])
    gradients = []
    for parts in ([[0, 1, 2]], [[0], [1], [2]], [[0], [1, 2]]):
        model.zero_grad(set_to_none=False)
        for part in parts:
            loss = torch.nn.functional.cross_entropy(model(video[part]), labels[part])
            (loss * len(part) / 3).backward()
        gradients.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
    for other in gradients[1:]:
        for key, value in gradients[0].items():
            assert torch.allclose(value, other[key], rtol=1e-3, atol=1e-5), key


@pytest.mark.parametrize("name, extra", VARIANTS)
def test_save_and_load(name, extra, tmp_path):
    cfg, model = build(name, extra)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    _, other = build(name, extra, seed=7)
    video = clips(cfg)
    to_eval(model), to_eval(other)
    with torch.no_grad():
        assert not torch.equal(model(video), other(video))
        other.load_state_dict(torch.load(tmp_path / "w.pth", weights_only=True))
        to_eval(other)
        assert torch.equal(model(video), other(video))


@pytest.mark.parametrize("name, extra", VARIANTS)
@torch._dynamo.config.patch(allow_rnn=True)  # PyTorch breaks the graph at its own nn.LSTM
def test_compiles_without_graph_breaks(name, extra):
    cfg, model = build(name, extra)
    to_eval(model)
    torch.compiler.reset()  # each variant anew
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(clips(cfg)), model(clips(cfg)), atol=1e-5)
    model.train()
    loss = torch.compile(model, backend="eager", fullgraph=True)(clips(cfg)).square().mean()
    loss.backward()


@pytest.mark.parametrize("name", NAMES)
def test_train_without_noise_is_eval(name):
    """With batch norm at its running statistics nothing else differs between the modes."""
    cfg, model = build(name, {"UNIFORMER.DROP_DEPTH_RATE": 0.0})
    video = clips(cfg)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    with torch.no_grad():
        trained = model(video)
        to_eval(model)
        assert torch.allclose(trained, model(video), atol=1e-6)


@pytest.mark.parametrize("name, extra", VARIANTS)
def test_features_lead_to_logits(name, extra):
    cfg, model = build(name, extra)
    to_eval(model)
    with torch.no_grad():
        features = model.forward_features(clips(cfg))
        assert torch.allclose(model.classify(features), model(clips(cfg)), atol=1e-6)


@pytest.mark.parametrize("name, extra", VARIANTS)
def test_size_is_measured(name, extra):
    cfg, model = build(name, extra)
    size = measure_model(model, cfg)
    assert size.parameters == sum(p.numel() for p in model.parameters())
    assert size.gflops > 0 and size.mega_activations > 0
    assert model.training  # left as it was


@pytest.mark.parametrize("name", NAMES)
def test_no_weight_decay_names_exist(name):
    _, model = build(name)
    for part in model.spec.no_weight_decay(model) - {"cls_token"}:
        assert any(part in parameter for parameter, _ in model.named_parameters())
