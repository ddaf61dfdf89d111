"""``slowfast.create_model`` and ``slowfast.list_models``: networks without a configuration."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import torch

import slowfast
from slowfast.models.base import MODEL_REGISTRY, VideoModel
from slowfast.models.create import model_variants
from slowfast.models.frame_average import FrameAverage
from slowfast.models.resnet3d import ResNet3D
from slowfast.models.spec import ModelSpec
from slowfast.models.tsn import Tsn
from slowfast.utils.errors import UserError

OURS = {
    "frame_average": FrameAverage,
    "r3d_18": ResNet3D,
    "r3d_34": ResNet3D,
    "r3d_50": ResNet3D,
    "tsn_squeezenet": Tsn,
    "tsn_bninception": Tsn,
    "trn_squeezenet": Tsn,
    "trn_bninception": Tsn,
    "trn_multiscale_bninception": Tsn,
}
# Arguments of a network small enough to compute one clip, and the size of that clip.
TINY = {
    "frame_average": ({"widths": [4, 8]}, (2, 16)),
    "r3d_18": ({"widen_factor": 0.125, "conv1_t_size": 3}, (4, 32)),
    "r3d_50": ({"widen_factor": 0.125}, (4, 32)),
    "trn_squeezenet": ({"num_frames": 3, "feature_dim": 8}, (3, 64)),
    "trn_multiscale_bninception": (
        {"num_frames": 3, "feature_dim": 8, "backbone": "timm/test_efficientnet"},
        (3, 32),
    ),
}


def test_names():
    names = slowfast.list_models()
    assert set(OURS) <= set(names) and names == sorted(names)
    assert slowfast.list_models("r3d_*") == ["r3d_18", "r3d_34", "r3d_50"]
    assert slowfast.list_models("t?n_squeezenet") == ["trn_squeezenet", "tsn_squeezenet"]
    assert slowfast.list_models("nothing*") == []


@pytest.mark.parametrize("name", slowfast.list_models())
def test_every_variant_is_built(name):
    model = slowfast.create_model(name, num_classes=7, device="meta")
    assert isinstance(model, VideoModel) and model.training
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert isinstance(model, OURS.get(name, VideoModel))


@pytest.mark.parametrize("name", TINY)
def test_logits_of_every_family(name):
    arguments, (frames, size) = TINY[name]
    model = slowfast.create_model(name, num_classes=7, **arguments).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, frames, size, size)).shape == (1, 7)


def test_variants_are_the_published_networks():
    assert slowfast.create_model("r3d_34", device="meta").layer3[5].conv2.weight.shape[0] == 256
    r3d_50 = slowfast.create_model("r3d_50", device="meta")
    assert r3d_50.fc.weight.shape == (400, 2048) and len(r3d_50.layer3) == 6
    trn = slowfast.create_model("trn_bninception", device="meta", num_frames=5)
    assert trn.consensus.classifier[1].in_features == 5 * 256
    assert hasattr(trn.base_model, "inception_5b_pool_proj")


def test_an_unknown_name_gives_near_ones():
    with pytest.raises(UserError, match="no model is called 'r3d_81'") as caught:
        slowfast.create_model("r3d_81")
    assert "did you mean r3d_18" in str(caught.value)
    with pytest.raises(UserError, match=r"slowfast.list_models\(\) lists all"):
        slowfast.create_model("something else")


def test_an_unknown_argument_gives_near_ones():
    with pytest.raises(UserError, match="r3d_18 has no argument 'widen_facto'") as caught:
        slowfast.create_model("r3d_18", widen_facto=2)
    assert "did you mean widen_factor?" in str(caught.value)
    with pytest.raises(UserError, match="there is no 3-D ResNet of 19 layers"):
        slowfast.create_model("r3d_18", depth=19)


def test_weights_with_another_classifier(tmp_path, caplog):
    """Everything is copied but the classifier, and the log says so."""
    caplog.set_level(logging.INFO)
    small = {"widen_factor": 0.125}
    donor = slowfast.create_model("r3d_18", num_classes=9, **small)
    path = tmp_path / "w.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in donor.state_dict().items()}}, path)
    model = slowfast.create_model("r3d_18", num_classes=4, weights=path, **small)
    assert model.fc.weight.shape[0] == 4
    assert torch.equal(model.layer4[1].conv2.weight, donor.layer4[1].conv2.weight)
    assert "weights of 3-D ResNet" in caplog.text and "head replaced" in caplog.text
    same = slowfast.create_model("r3d_18", num_classes=9, weights=str(path), **small)
    assert torch.equal(same.fc.weight, donor.fc.weight)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(slowfast.create_model("frame_average").state_dict(), path)
    with pytest.raises(UserError, match="fills only 0.0 %"):
        slowfast.create_model("r3d_18", weights=path, widen_factor=0.125)
    with pytest.raises(UserError, match="there is no checkpoint"):
        slowfast.create_model("r3d_18", weights=tmp_path / "absent.pth")


def test_two_variants_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr(MODEL_REGISTRY, "_objects", dict(MODEL_REGISTRY._objects))

    @MODEL_REGISTRY.register("TestTwin")
    class Twin(FrameAverage):
        spec = ModelSpec(variants={"r3d_18": {}})

    with pytest.raises(UserError, match="ResNet3D and Twin both have a variant 'r3d_18'"):
        model_variants()


def test_own_networks_are_created_by_name(monkeypatch):
    monkeypatch.setattr(MODEL_REGISTRY, "_objects", dict(MODEL_REGISTRY._objects))

    @MODEL_REGISTRY.register("TestOwn")
    class Own(FrameAverage):
        spec = ModelSpec(variants={"own_tiny": {"widths": (4,)}})

    assert isinstance(slowfast.create_model("own_tiny", num_classes=2), Own)


def test_importing_the_package_is_light():
    code = (
        "import sys, slowfast; assert 'create_model' in dir(slowfast); "
        "print([m for m in ('torch', 'timm', 'slowfast.models') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
    with pytest.raises(AttributeError, match="no attribute 'create_modle'"):
        slowfast.create_modle  # noqa: B018
