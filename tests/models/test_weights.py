"""Released weights: recognised, converted, reported; wrong ones refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from slowfast.models.base import MODEL_REGISTRY, VideoModel
from slowfast.models.spec import ModelSpec, WeightSource
from slowfast.models.weights.convert import fit_tensor
from slowfast.models.weights.loader import find_pretrained, load_state, load_weights
from slowfast.models.weights.read import Checkpoint, read_checkpoint, state_dict_of
from slowfast.models.weights.sources import (
    OWN_NAMES,
    detect_source,
    registered_resizers,
    registered_sources,
)
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


def plain_source(name, part, **options):
    return WeightSource(name, lambda state: any(part in n for n in state), **options)


def test_formats_of_registered_networks_are_known(monkeypatch):
    """A network that another package registers brings its formats and resizers along."""
    monkeypatch.setattr(MODEL_REGISTRY, "_objects", dict(MODEL_REGISTRY._objects))

    def halve(name, tensor, shape):
        return tensor[: shape[0]] if name == "table" else None

    @MODEL_REGISTRY.register("TestTable")
    class Table(VideoModel):
        spec = ModelSpec(
            sources=(
                plain_source("tables", "net.table", adapt=lambda s, m: {"table": s["net.table"]}),
            ),
            resizers=(halve,),
        )

        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.zeros(2, 3))

    assert "tables" in [source.name for source in registered_sources()]
    assert halve in registered_resizers()
    state = {"net.table": torch.arange(12.0).view(4, 3)}
    assert detect_source(state).name == "tables"
    model = Table()
    report = load_state(model, state)
    assert report.converted == ["table"] and torch.equal(model.table, state["net.table"][:2])


def test_formats_of_the_network_come_first():
    first, second = plain_source("first", "a"), plain_source("second", "a")
    assert detect_source({"a": torch.zeros(1)}, [first, second]).name == "first"
    assert detect_source({"body.0.weight": torch.zeros(1)}).name == OWN_NAMES.name


@pytest.mark.parametrize(
    "name, extra, expected",
    [
        ("TSN", {}, "stmodeling"),
        ("TSN", {"TSN.CONSENSUS": "LSTM"}, "stmodeling"),
        ("ResNet3D", {}, "3-D ResNet"),
        ("ResNet3D", {"RESNET3D.DEPTH": 50}, "3-D ResNet"),
        ("FrameAverage", {}, None),
    ],
)
def test_formats_exclude_each_other(name, extra, expected):
    """What one network saves is recognised by one format at most."""
    state = build(name, extra)[1].state_dict()
    matching = [source.name for source in registered_sources() if source.matches(state)]
    assert matching == ([expected] if expected else [])


def test_fit_tensor_tries_the_resizers_in_order():
    tensor, calls = torch.arange(4.0), []

    def wrong(name, value, shape):
        calls.append(name)
        return value[:1]  # of another shape than asked: the next is tried

    def right(name, value, shape):
        return value[: shape[0]]

    assert torch.equal(fit_tensor("x", tensor, (3,), resizers=[wrong, right]), tensor[:3])
    assert calls == ["x"]
    assert fit_tensor("x", tensor, (3,), resizers=[wrong]) is None
    assert fit_tensor("x", tensor, [4], resizers=[wrong]) is tensor


def test_convolutions_are_inflated():
    image = torch.arange(8.0).view(2, 1, 2, 2)
    video = fit_tensor("conv.weight", image, (2, 1, 3, 2, 2))
    assert torch.allclose(video.sum(2), image) and torch.equal(video[:, :, 0], video[:, :, 2])
    repeated = fit_tensor("patch_embed.weight", image, (2, 1, 3, 2, 2), image_init=True)
    assert torch.equal(repeated, image[:, :, None].expand(2, 1, 3, 2, 2))
    assert fit_tensor("conv.weight", video, (2, 1, 2, 2)) is None
    assert torch.allclose(fit_tensor("conv.weight", video, (2, 1, 2, 2), image_init=True), image)


def test_a_file_that_was_read_is_not_read_again(tmp_path):
    cfg, donor = build("FrameAverage", seed=3)
    _, model = build("FrameAverage")
    checkpoint = Checkpoint(tmp_path / "absent.pth", {"state_dict": donor.state_dict()})
    assert load_weights(model, checkpoint, cfg) is checkpoint
    assert same_output(cfg, donor, model)
    broken = Checkpoint("empty.pth", {"epoch": 1})
    with pytest.raises(UserError, match="empty.pth holds no weights"):
        load_weights(model, broken, cfg)


def test_a_refused_file_changes_nothing():
    _, model = build("FrameAverage")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = {"body.0.weight": torch.ones(8, 3, 3, 3)}  # fits, but is not enough
    with pytest.raises(UserError, match="fills only"):
        load_state(model, state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
