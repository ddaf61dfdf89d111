"""Checkpoint files: looked into, converted, stripped."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from slowfast.models import build_model
from slowfast.models.weights import files
from slowfast.models.weights.read import read_checkpoint
from slowfast.utils.errors import UserError


@pytest.fixture
def checkpoint(make_cfg, tmp_path):
    cfg = make_cfg()
    model = build_model(cfg)
    state = model.state_dict()
    content = {
        "epoch": 4,
        "model_state": {f"module.{k}": v for k, v in state.items()},
        "ema_state": {k: v + 1 for k, v in state.items()},
        "optimizer_state": {"state": {}},
        "cfg": cfg.dump(),
        "class_names": ["a", "b", "c", "d"],
    }
    torch.save(content, tmp_path / "run.pyth")
    return cfg, model, tmp_path / "run.pyth"


def test_inspect(checkpoint):
    _, model, path = checkpoint
    facts = files.inspect_file(path)
    assert facts["source"] == "UniFormer (video)" and facts["model"] == "Uniformer"
    assert facts["epoch"] == 4 and facts["average"] and facts["classes"] == ["a", "b", "c", "d"]
    assert facts["parameters"] == sum(v.numel() for v in model.state_dict().values())
    assert facts["shapes"]["head.weight"] == [4, 32] and facts["not_finite"] == []
    content = read_checkpoint(path)
    content["model_state"]["module.head.bias"][0] = float("nan")
    torch.save(content, path)
    assert files.inspect_file(path)["not_finite"] == ["head.bias"]


def test_strip(checkpoint, tmp_path):
    _, model, path = checkpoint
    files.strip_file(path, tmp_path / "w" / "plain.pyth")
    stripped = read_checkpoint(tmp_path / "w" / "plain.pyth")
    assert set(stripped) == {"model_state", "cfg", "class_names"}
    assert torch.equal(stripped["model_state"]["head.weight"], model.head.weight)
    files.strip_file(path, tmp_path / "average.safetensors", average=True)
    average = load_file(tmp_path / "average.safetensors")
    assert torch.equal(average["head.weight"], model.head.weight + 1)
    with pytest.raises(UserError, match="no averaged weights"):
        files.strip_file(tmp_path / "w" / "plain.pyth", tmp_path / "x.pyth", average=True)


def test_safetensors_hold_classes_and_configuration(checkpoint, tmp_path):
    """The same as a .pyth file, in the same bytes each time, under the same checksum."""
    _, _, path = checkpoint
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    for target in (one, two):
        files.strip_file(path, target)
    assert one.read_bytes() == two.read_bytes()
    content, original = read_checkpoint(one), read_checkpoint(path)
    assert content["class_names"] == original["class_names"] and content["cfg"] == original["cfg"]
    data = one.read_bytes()
    one.write_bytes(data.replace(b'[\\"a\\", \\"b\\"', b'[\\"b\\", \\"a\\"'))
    assert one.read_bytes() != data
    with pytest.raises(UserError, match="its content has changed"):
        read_checkpoint(one)


@pytest.mark.parametrize("name, remedy", [("w.onnx", "export"), ("w.bin", ".pyth"), ("w", ".pyth")])
def test_names_that_say_another_kind_of_file(checkpoint, tmp_path, name, remedy):
    _, _, path = checkpoint
    with pytest.raises(UserError, match=f"OUT: .*{name} is no name of a file of weights") as caught:
        files.strip_file(path, tmp_path / name)
    assert remedy in str(caught.value) and not (tmp_path / name).exists()


def test_convert(checkpoint, make_cfg, tmp_path):
    """Another head, everything else as it was; a file of another network is refused."""
    _, model, path = checkpoint
    cfg = make_cfg({"MODEL.NUM_CLASSES": 6})
    files.convert_file(path, tmp_path / "six.pyth", build_model(cfg), cfg)
    made = read_checkpoint(tmp_path / "six.pyth")["model_state"]
    assert made["head.weight"].shape == (6, 32)
    name = "blocks3.0.attn.qkv.weight"
    assert torch.equal(made[name], model.state_dict()[name])
    other = make_cfg({"UNIFORMER.EMBED_DIM": [16, 16, 32, 32]})
    with pytest.raises(UserError, match="fills only"):
        files.convert_file(path, tmp_path / "no.pyth", build_model(other), other)
    assert not (tmp_path / "no.pyth").exists()
