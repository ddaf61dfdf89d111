"""Released weights: recognised, converted, reported; wrong ones refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from slowfast.models.weights.loader import find_pretrained, load_state, load_weights
from slowfast.models.weights.read import read_checkpoint, state_dict_of
from slowfast.models.weights.sources import detect_source
from slowfast.utils.errors import UserError
from tests.models.helpers import build, clips


def same_output(cfg, a, b):
    a.eval(), b.eval()
    with torch.no_grad():
        return torch.equal(a(clips(cfg)), b(clips(cfg)))


WRAPPERS = {
    "bare.pth": lambda s: s,
    "uniformer.pth": lambda s: {"model": s},
    "slowfast.pyth": lambda s: {"model_state": s, "epoch": 5, "cfg": "A: 1", "optimizer_state": {}},
    "ddp.pth": lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
    "old.pth": lambda s: {"model": s, "acc": np.float64(76.1)},
}


@pytest.mark.parametrize("name", [*WRAPPERS, "w.safetensors"])
@pytest.mark.parametrize("stfm", [False, True])
def test_every_wrapping_loads(name, stfm, tmp_path):
    cfg, donor = build("Uniformer", {"STFM.ENABLE": stfm}, seed=3)
    path = tmp_path / name
    if name.endswith("safetensors"):
        save_file(donor.state_dict(), path)
    else:
        torch.save(WRAPPERS[name](donor.state_dict()), path)
    _, model = build("Uniformer", {"STFM.ENABLE": stfm})
    load_weights(model, path, cfg)
    assert same_output(cfg, donor, model)


def image_state(model) -> dict:
    """An ImageNet state dict of the same network: every convolution without time."""
    state = {}
    for name, value in model.state_dict().items():
        state[name] = value.sum(2) if value.ndim == 5 else value
    return state


def test_image_weights_inflate():
    cfg, donor = build("Uniformer", seed=3)
    state = image_state(donor)
    assert detect_source(state).name == "UniFormer (ImageNet)"
    _, model = build("Uniformer")
    report = load_state(model, state)
    assert report.share == 1.0 and len(report.converted) > 10
    weight = model.blocks1[0].attn.weight
    assert torch.allclose(weight.sum(2), state["blocks1.0.attn.weight"], atol=1e-6)
    assert torch.equal(weight[:, :, 0], weight[:, :, 4])


def test_uniformer_starts_stfm():
    _, donor = build("Uniformer", seed=3)
    _, model = build("Uniformer", {"STFM.ENABLE": True})
    report = load_state(model, donor.state_dict())
    assert report.source == "UniFormer (video)" and report.share == 1.0
    assert all(name.startswith(("stfm.", "normF.")) for name in report.new) and report.new
    assert torch.equal(model.blocks40[0].attn.qkv.weight, donor.blocks4[0].attn.qkv.weight)
    assert not report.missing and not report.unexpected


def test_foreign_head_is_replaced():
    _, donor = build("Uniformer", {"MODEL.NUM_CLASSES": 9}, seed=3)
    _, model = build("Uniformer")
    before = model.head.weight.clone()
    report = load_state(model, donor.state_dict())
    assert report.head == ["head.weight", "head.bias"] and report.share == 1.0
    assert torch.equal(model.head.weight, before)
    assert any("head replaced" in line for line in report.lines())


def test_other_network_is_refused():
    _, donor = build("FrameAverage", seed=3)
    _, model = build("Uniformer")
    with pytest.raises(UserError, match=r"fills only 0\.0 %") as caught:
        load_state(model, donor.state_dict())
    assert "missing in the file" in str(caught.value) and "body.0.weight" in str(caught.value)
    deeper = build("Uniformer", {"UNIFORMER.DEPTH": [1, 1, 4, 1]})[1]
    with pytest.raises(UserError, match="TRAIN.CHECKPOINT_MIN_MATCH"):
        load_state(deeper, model.state_dict())
    assert load_state(deeper, model.state_dict(), min_match=0.3).missing


def test_names_are_cleared():
    _, donor = build("Uniformer", seed=3)
    _, model = build("Uniformer")
    state = {f"backbone.{k}": v for k, v in donor.state_dict().items()}
    assert load_state(model, state, clear_patterns=["backbone."]).share == 1.0


def test_released_file_never_brings_its_optimizer(tmp_path):
    """Fine-tuning from a file with other classes and another optimizer starts at epoch 0."""
    cfg, donor = build("Uniformer", {"MODEL.NUM_CLASSES": 9})
    path = tmp_path / "w.pyth"
    torch.save({"epoch": 196, "model_state": donor.state_dict(), "optimizer_state": {"x": 1}}, path)
    _, model = build("Uniformer")
    assert load_weights(model, path, cfg).content["epoch"] == 196


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/never-written", "w"))


def test_unreadable_files(tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "absent.pth")
    whole = tmp_path / "w.pth"
    torch.save({"model": {"a": torch.zeros(1000)}}, whole)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole.read_bytes()[:900])
    with pytest.raises(UserError, match="may be truncated"):
        read_checkpoint(cut)
    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="holds more than tensors"):
        read_checkpoint(tmp_path / "evil.pth")
    torch.save({"epoch": 1}, tmp_path / "none.pth")
    with pytest.raises(UserError, match="holds no weights"):
        state_dict_of(read_checkpoint(tmp_path / "none.pth"), "none.pth")


def test_pretrained_by_name(tmp_path):
    with pytest.raises(UserError, match=r"start at random with K \"\""):
        find_pretrained("uniformer_small_in1k", str(tmp_path), "K")
    (tmp_path / "index.yaml").write_text("uniformer_small_in1k: {source: https://example.org/w}\n")
    with pytest.raises(UserError, match="get it from https://example.org/w"):
        find_pretrained("uniformer_small_in1k", str(tmp_path), "K")
    (tmp_path / "uniformer_small_in1k.pth").touch()
    assert find_pretrained("uniformer_small_in1k", str(tmp_path), "K").name.endswith("in1k.pth")
