"""Texts of classes: encoded when asked, forgotten with the weights, stored on disk."""

from __future__ import annotations

import copy

import pytest
import torch

from slowfast.models.clip import texts
from slowfast.models.clip.sizes import ClipSizes
from slowfast.models.clip.text_bank import TextBank, encode_cached
from slowfast.models.clip.towers import CLIP
from slowfast.models.clip.video import TemporalClipVideo
from slowfast.utils.errors import UserError
from tests.models.clip.helpers import NAME
from tests.models.helpers import build, clips, to_eval

SIZES = ClipSizes(8, 64, 1, 16, 32, 12, text_width=64, text_layers=1)


def test_encoded_texts_are_found_again(tmp_path, caplog):
    caplog.set_level("INFO")
    extra = {"CLIP.TEXT_CACHE": str(tmp_path), "CLIP.TEMPLATES": ["a {}.", "the {}."]}
    cfg, model = build(NAME, extra)
    with torch.no_grad():
        first = to_eval(model)(clips(cfg))
        (file,) = tmp_path.iterdir()
        again = to_eval(build(NAME, extra)[1])
        assert torch.equal(again(clips(cfg)), first)
        assert "encoded before" in caplog.text and len(list(tmp_path.iterdir())) == 1
        # Another name, another template, another network: other texts.
        for change in ({"DATA.CLASS_NAMES": list("abcde")}, {"CLIP.TEMPLATES": ["a {}."]}):
            build(NAME, extra | change)
        build(NAME, extra, seed=5)
        assert len(list(tmp_path.iterdir())) == 4
        file.write_bytes(b"broken")
        assert torch.equal(to_eval(build(NAME, extra)[1])(clips(cfg)), first)
        assert "cannot be read" in caplog.text


def test_stored_texts_know_no_mixed_precision(tmp_path):
    """A run in bfloat16 that encodes them first leaves what a run in float32 would have left."""
    torch.manual_seed(0)
    network = CLIP(ClipSizes(8, 64, 1, 16, 32, 12, text_width=64, text_layers=2))
    tokens = texts.fill_templates(["a {}."], ["cat", "dog"], 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        stored = encode_cached(network, tokens, str(tmp_path))
    assert stored.dtype == torch.float32
    assert torch.equal(encode_cached(network, tokens, str(tmp_path)), stored)
    assert torch.equal(texts.encode(network, tokens), stored)


def test_texts_follow_the_weights():
    """A text tower that learns is encoded anew at each evaluation."""
    cfg, model = build(NAME, {"CLIP.TRAINED": ["visual", "text", "text_projection"]})
    with torch.no_grad():
        before = to_eval(model)(clips(cfg))
        model.train()
        model.model.ln_final.weight.mul_(-1)
        assert not torch.allclose(to_eval(model)(clips(cfg)), before, atol=1e-3)


def test_the_forward_pass_encodes_nothing():
    """New weights, new names and training make the texts stale: a UserError says what to do."""
    cfg, model = build(NAME)
    video = clips(cfg)
    to_eval(model)(video)
    for change in (
        lambda: model.load_state_dict(model.state_dict()),
        lambda: model.set_classes(["a", "b"]),
        lambda: model.train(),
    ):
        change()
        with pytest.raises(UserError, match=r'begin\("test"\)'):
            model.eval()(video)
        to_eval(model)(video)
    model.load_state_dict(model.state_dict())
    with pytest.raises(UserError, match=r'begin\("train"\)'):
        model.train()(video)
    model.begin("train")
    model(video)


def test_without_classes_there_are_no_scores():
    model = TemporalClipVideo(SIZES)
    with pytest.raises(UserError, match="no classes yet.*\n.*set_classes"):
        model(torch.zeros(1, 3, 2, 32, 32))
    with pytest.raises(UserError, match="no classes yet"):
        model.begin("test")
    with pytest.raises(UserError, match="no class names"):
        model.set_classes([])


@pytest.mark.parametrize(
    "trained", [["visual"], ["visual", "text_projection"], ["visual", "text_projection", "text"]]
)
@pytest.mark.parametrize("extra", [{}, {"MODEL.TEXT_PROMPT": True}, {"TUNE_HEAD": True}])
def test_evaluation_before_training(trained, extra):
    """What is encoded under inference mode can be used by a training step."""
    cfg, model = build(NAME, extra | {"CLIP.TRAINED": trained})
    model.load_state_dict(model.state_dict())  # nothing is encoded
    model.eval()
    with torch.inference_mode():
        model.begin("val")
        model(clips(cfg))
    model.train()
    model.begin("train")
    model(clips(cfg)).square().mean().backward()
    assert model.model.visual.proj.grad.abs().sum() > 0


def test_texts_read_from_disk_under_inference_mode_can_train(tmp_path):
    extra = {"CLIP.TEXT_CACHE": str(tmp_path), "CLIP.TRAINED": ["visual", "text_projection"]}
    cfg, model = build(NAME, extra)
    model.load_state_dict(model.state_dict())
    with torch.inference_mode():
        model.begin("val")
    model.begin("train")
    model(clips(cfg)).square().mean().backward()
    assert model.model.text_projection.grad.abs().sum() > 0


def test_frozen_texts_are_encoded_once(monkeypatch):
    """Per set of weights: epochs and evaluations share the hidden states."""
    calls, encode = [], texts.encode
    monkeypatch.setattr(texts, "encode", lambda *args: calls.append(1) or encode(*args))
    _, model = build(NAME)
    for split in ("train", "val", "train", "val", "test"):
        model.train(split == "train")
        model.begin(split)
    assert len(calls) == 1
    model.load_state_dict(model.state_dict())
    model.begin("test")
    assert len(calls) == 2


def test_texts_are_no_part_of_the_state():
    """They are sent to no other process and saved in no checkpoint."""
    _, model = build(NAME)
    to_eval(model)
    assert not list(model.buffers())
    assert {name.split(".")[0] for name in model.state_dict()} == {"model"}


def test_a_copy_has_its_own_texts():
    cfg, model = build(NAME)
    twin = copy.deepcopy(to_eval(model))
    twin.set_classes(["a", "b"])
    to_eval(twin)
    assert twin(clips(cfg)).shape == (2, 2) and model(clips(cfg)).shape == (2, 5)


def test_features_of_a_file_need_as_many_names():
    bank = TextBank(prompts=torch.ones(3, 2, 4))
    with pytest.raises(UserError, match="texts of 3 classes, there are 2"):
        bank.set_classes(["a", "b"])
    bank.set_classes(["a", "b", "c"])
    assert bank.features() is bank.prompts
