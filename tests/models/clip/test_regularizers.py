"""Distillation, interpolated weights and the ensemble with the frozen copy."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.models.clip.helpers import NAME, write_clip
from tests.models.helpers import build, clips, to_eval

RAW = {"MODEL.KEEP_RAW_MODEL": True, "MODEL.RAW_MODEL_DISTILLATION": True}


def test_distillation_by_hand():
    cfg, model = build(NAME, RAW | {"MODEL.DISTILLATION_RATIO": 2.0})
    with torch.no_grad():  # away from the copy, and a projector that does something
        model.model.visual.proj.add_(torch.randn_like(model.model.visual.proj))
        model.projector_v[2].weight.normal_()
    video = clips(cfg)
    loss = model(video, with_losses=True)[1]["loss_distillation"]
    frames = model.forward_features(video)
    raw = F.normalize(model.raw_model.visual(video), dim=-1)
    moved = F.normalize(frames + 0.1 * model.projector_v(frames), dim=-1)
    assert torch.allclose(loss, 2 * (1 - (moved * raw).sum(-1).mean()), atol=1e-6)
    loss.backward()
    assert all(p.grad is None for p in model.raw_model.parameters())
    assert not model.raw_model.training
    assert to_eval(model)(video, with_losses=True)[1] == {}


def test_the_copy_is_the_original_at_first():
    cfg, model = build(NAME, RAW)
    loss = model(clips(cfg), with_losses=True)[1]["loss_distillation"]
    # expand_temporal_view sees neighbours, the copy does not.
    assert loss > 1e-4
    cfg, model = build(NAME, RAW | {"MODEL.TEMPORAL_MODELING_TYPE": ""})
    assert model(clips(cfg), with_losses=True)[1]["loss_distillation"].abs() < 1e-6


def test_interpolation_adds_the_gradient_of_the_weights_half_way(tmp_path):
    """Weights half way to the original: their gradient, as it is, times the ratio."""
    state = write_clip(tmp_path / "clip.pt")
    extra = {
        "TRAIN.CLIP_ORI_PATH": tmp_path / "clip.pt",
        "TRAIN.LINEAR_CONNECT_CLIMB": True,
        "TRAIN.LINEAR_CONNECT_LOSS_RATIO": 0.5,
        "TRAIN.LINEAR_CONNECT_SAMPLE": False,
        "CLIP.TRAINED": ["visual", "text_projection", "logit_scale"],
        "MODEL.ARCH": "custom",
    }
    cfg, model = build(NAME, extra)
    video, labels = clips(cfg), torch.tensor([0, 1])
    scores, losses = model(video, with_losses=True)
    interpolated = losses["loss_connection"]
    assert interpolated.weight == 0.5
    F.cross_entropy(interpolated.logits, labels).backward()
    between = build(NAME, extra)[1]
    with torch.no_grad():
        for name, parameter in between.model.named_parameters():
            if parameter.requires_grad and name in state:
                parameter.lerp_(state[name], 0.5)
    logits = between(video)
    assert torch.allclose(interpolated.logits, logits, atol=1e-5)
    assert not torch.allclose(interpolated.logits, scores, atol=1e-3)
    F.cross_entropy(logits, labels).backward()
    for (name, ours), theirs in zip(model.named_parameters(), between.parameters()):
        if ours.requires_grad:
            assert torch.allclose(ours.grad, theirs.grad, atol=1e-5), name
    assert not any("original" in name for name in model.state_dict())


def test_ensemble_mixes_scores():
    extra = {"MODEL.KEEP_RAW_MODEL": True, "MODEL.ENSEMBLE_PRED": True}
    outputs = {}
    for share in (0.0, 0.3, 1.0):
        cfg, model = build(NAME, extra | {"MODEL.ENSEMBLE_RAWMODEL_RATIO": share})
        with torch.no_grad():
            outputs[share] = to_eval(model)(clips(cfg))
    assert torch.allclose(outputs[0.3], 0.7 * outputs[0.0] + 0.3 * outputs[1.0], atol=1e-5)
    assert not torch.allclose(outputs[0.0], outputs[1.0], atol=1e-3)
