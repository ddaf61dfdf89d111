"""CLIP over videos as a network: classes, learned classifiers and prompts, files of texts."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from slowfast.models.clip.scores import prompt_scores
from slowfast.models.clip.sizes import ClipSizes
from slowfast.models.clip.video import TemporalClipVideo
from slowfast.models.weights.loader import load_state
from slowfast.utils.errors import UserError
from tests.models.clip.helpers import NAME, write_clip
from tests.models.helpers import build, clips, to_eval


def test_any_classes_can_be_tested(tmp_path):
    """The same weights with another class map: other outputs, no error."""
    names = tmp_path / "mine.json"
    names.write_text(json.dumps({"0": "a cat", "1": "a dog", "2": "archery"}))
    cfg, model = build(NAME)
    extra = {"DATA.CLASS_NAMES": [], "DATA.INDEX_LABEL_MAPPING_FILE": names}
    other_cfg, other = build(NAME, extra)
    assert other_cfg.MODEL.NUM_CLASSES == 3 and cfg.MODEL.NUM_CLASSES == 5
    load_state(other, model.state_dict(), min_match=1.0)
    to_eval(model), to_eval(other)
    with torch.no_grad():
        mine, theirs = other(clips(cfg)), model(clips(cfg))
    assert torch.allclose(mine[:, 2], theirs[:, 0], atol=1e-5)  # both call it archery


def test_tuned_head_begins_as_the_texts(tmp_path):
    write_clip(tmp_path / "clip.pt")
    cfg, model = build(NAME, {"TUNE_HEAD": True})
    cfg, plain = build(NAME)
    for network in (model, plain):
        load_state(network, torch.load(tmp_path / "clip.pt"))
        to_eval(network)
    with torch.no_grad():
        assert torch.allclose(model(clips(cfg)), plain(clips(cfg)), atol=1e-5)
        model.head.add_(1.0)
        to_eval(model)
        again = build(NAME, {"TUNE_HEAD": True})[1]
        again.load_state_dict(model.state_dict())  # a trained head stays
        again.set_classes(cfg.DATA.CLASS_NAMES)
        to_eval(again)
        assert torch.equal(again(clips(cfg)), model(clips(cfg)))


def test_prompt_of_the_placeholder_is_the_plain_text():
    """Learned tokens that are the placeholder's embedding change nothing."""
    cfg, model = build(NAME, {"MODEL.TEXT_PROMPT": True, "MODEL.PROMPT_NUM": 2})
    plain = build(NAME, {"CLIP.TEMPLATES": ["X X {}."]})[1]
    plain.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        model.prompt_embed.copy_(model.model.token_embedding(model.texts.tokens[0, 0, 1:3]))
        to_eval(model), to_eval(plain)
        assert torch.allclose(model(clips(cfg)), plain(clips(cfg)), atol=1e-5)


def test_text_features_of_a_file(tmp_path):
    features = torch.randn(5, 3, 32)
    torch.save(features, tmp_path / "f.pt")
    file = {"DATA.TEXT_AUG": True, "DATA.TEXT_AUG_FEATURE_FILE": tmp_path / "f.pt"}
    cfg, model = build(NAME, file)
    to_eval(model)
    with torch.no_grad():
        scale = model.model.logit_scale.exp()
        wanted = prompt_scores(
            model.forward_features(clips(cfg)), F.normalize(features, dim=-1), scale
        )
        assert torch.equal(model(clips(cfg)), wanted)
    assert not model.model.text_projection.requires_grad  # no score depends on it


def test_a_learned_classifier_keeps_its_classes():
    _, model = build(NAME, {"TUNE_HEAD": True})
    with pytest.raises(UserError, match="has 5 outputs, there are 2 names"):
        model.set_classes(["a", "b"])


def test_arguments_instead_of_a_configuration():
    """The constructor alone gives what a configuration gives, without any file or name."""
    cfg, model = build(NAME, {"MODEL.KEEP_RAW_MODEL": True, "MODEL.RAW_MODEL_DISTILLATION": True})
    torch.manual_seed(0)
    twin = TemporalClipVideo(
        ClipSizes(8, 64, 2, 32, 32, 16, text_width=64, text_layers=1),
        temporal_modeling="expand_temporal_view",
        templates=["a video of {}."],
        keep_raw_model=True,
        distillation_weight=1.0,
    )
    assert twin.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(v, twin.state_dict()[n]) for n, v in model.state_dict().items())
    twin.set_classes(cfg.DATA.CLASS_NAMES)
    assert torch.equal(to_eval(twin)(clips(cfg)), to_eval(model)(clips(cfg)))


@pytest.mark.parametrize("name", TemporalClipVideo.spec.variants)
def test_variants_can_be_built(name):
    arguments = TemporalClipVideo.spec.variants[name]
    with torch.device("meta"):
        model = TemporalClipVideo(**arguments)
    millions = {32: 151.3, 16: 149.6, 14: 427.6}[arguments["sizes"].patch]  # as released
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_regularisation_by_the_copy_needs_it():
    for argument in ({"distillation_weight": 1.0}, {"ensemble_ratio": 0.5}):
        with pytest.raises(UserError, match="need the frozen copy"):
            TemporalClipVideo(ClipSizes(8, 64, 1, 16, 32, 12, text_width=64), **argument)


def test_the_frozen_copy_never_trains():
    _, model = build(NAME, {"MODEL.KEEP_RAW_MODEL": True})
    model.train()
    assert model.training and not model.raw_model.training
    assert not any(p.requires_grad for p in model.raw_model.parameters())
