"""TSN: backbones, their weights and input, groups of parameters, partial batch normalisation."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torchvision.models import squeezenet1_1

from slowfast.config.load import load_config
from slowfast.engine.optim import build_optimizer
from slowfast.layers.consensus import HEAD_REGISTRY
from slowfast.models.bninception import BNInception
from slowfast.models.build import set_train_mode
from slowfast.models.frame_backbones import BACKBONE_REGISTRY, IMAGENET, backbone_input
from slowfast.models.tsn import Tsn
from slowfast.models.weights.loader import load_state
from slowfast.utils.errors import UserError
from slowfast.video.device import build_normalizer
from tests.conftest import words
from tests.models.helpers import build, clips


def image_weights(backbone):
    """A state dict as it is published: with the classifier, under the project's names."""
    torch.manual_seed(5)
    if backbone == "squeezenet1_1":
        return squeezenet1_1().state_dict()
    if backbone == "BNInception":
        state = BNInception().state_dict()
        flat = {k: v[None] if "_bn." in k and v.ndim == 1 else v for k, v in state.items()}
        return flat | {"fc.weight": torch.zeros(1000, 1024), "fc.bias": torch.zeros(1000)}
    return timm.create_model(backbone.removeprefix("timm/")).state_dict()


@pytest.mark.parametrize(
    "backbone", ["squeezenet1_1", "BNInception", "timm/resnet10t", "timm/test_efficientnet"]
)
def test_imagenet_weights_load(backbone):
    _, model = build("TSN", {"TSN.BACKBONE": backbone, "TSN.CONSENSUS": "MLP"})
    state = image_weights(backbone)
    report = load_state(model, state)
    assert report.source == "a 2-D network (ImageNet)" and report.share == 1.0
    assert not report.mismatched and not report.missing
    assert all(name.startswith(("new_fc", "consensus")) for name in report.new)
    first = next(name for name in state if state[name].ndim == 4)
    ours = model.base_model.state_dict()[first.removeprefix("features.")]
    assert torch.equal(ours, state[first])


@pytest.mark.parametrize(
    "kind, lost", [("MLP", 2), ("TRNmultiscale", 6), ("TSN", 2), ("LSTM", 2), ("FCN2D", 2)]
)
def test_other_classes_replace_the_last_layers_only(kind, lost):
    _, donor = build("TSN", {"TSN.CONSENSUS": kind, "MODEL.NUM_CLASSES": 7}, seed=3)
    _, model = build("TSN", {"TSN.CONSENSUS": kind})
    state = {f"module.{k}": v for k, v in donor.state_dict().items()}
    report = load_state(model, {k.removeprefix("module."): v for k, v in state.items()})
    assert len(report.head) == lost and report.share == 1.0 and not report.mismatched


@pytest.mark.parametrize(
    "backbone, pixel",
    [
        ("BNInception", [30 - 104, 20 - 117, 10 - 128]),
        (
            "squeezenet1_1",
            [(10 / 255 - 0.485) / 0.229, (20 / 255 - 0.456) / 0.224, (30 / 255 - 0.406) / 0.225],
        ),
        ("timm/tf_efficientnet_lite0", [(v / 255 - 0.5) / 0.5 for v in (10, 20, 30)]),
    ],
)
def test_backbones_get_the_input_they_were_trained_on(backbone, pixel):
    cfg, model = build("TSN", {"TSN.BACKBONE": backbone, "TSN.INPUT": "backbone"})
    normalize = build_normalizer(cfg, False, model.spec.input_format(cfg))
    red_green_blue = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1, 1)
    seen = normalize(red_green_blue, torch.device("cpu")).flatten()
    assert torch.allclose(seen, torch.tensor(pixel, dtype=torch.float32), atol=1e-3)


def test_an_order_that_the_backbone_does_not_expect_is_refused():
    tiny = {"NUM_GPUS": 0, "MODEL.MODEL_NAME": "TSN", "TSN.BACKBONE": "BNInception"}
    load_config(overrides=words(tiny))
    with pytest.raises(UserError, match="BNInception expects BGR"):
        load_config(overrides=words(tiny | {"DATA.INPUT_FORMAT": "RGB"}))
    load_config(overrides=words(tiny | {"DATA.INPUT_FORMAT": "RGB", "TSN.INPUT": "data"}))


@pytest.mark.parametrize(
    "values, message",
    [
        ({"TSN.BACKBONE": "timm/resnet5000"}, "no backbone is called 'timm/resnet5000'"),
        ({"TSN.BACKBONE": "resnet18"}, "timm/resnet18"),
        ({"TSN.CONSENSUS": "TRNmultscale"}, "did you mean TRNmultiscale"),
        ({"TSN.CONSENSUS": "BLSTM", "TSN.HIDDEN_SIZE": 7}, "cannot be halved"),
        ({"TSN.CONSENSUS": "TRNmultiscale", "DATA.NUM_FRAMES": 1}, "relates at least 2 frames"),
        (
            {"TSN.CONSENSUS": "TRNmultiscale", "DATA.NUM_FRAMES": 24, "TSN.TRN_EVAL_ALL": True},
            "too many subsets",
        ),
        ({"TSN.CONSENSUS": "Transformer", "TSN.FEATURE_DIM": 10}, "cannot be divided among 4"),
    ],
)
def test_wrong_sizes(values, message):
    with pytest.raises(UserError, match=message):
        build("TSN", values)


def test_a_backbone_without_maps_is_named():
    _, model = build("TSN", {"TSN.BACKBONE": "timm/test_vit", "DATA.TRAIN_CROP_SIZE": 160})
    with pytest.raises(UserError, match="choose a convolutional network"):
        model(torch.zeros(1, 3, 4, 160, 160))


def test_partial_batch_normalisation():
    cfg, model = build("TSN", {"TSN.PARTIAL_BN": True, "TSN.CONSENSUS": "FCN2D"})
    set_train_mode(model, frozen_bn=False)
    norms = [m for m in model.base_model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms[0].training and norms[0].weight.requires_grad
    assert not any(m.training or m.weight.requires_grad for m in norms[1:]) and len(norms) > 3
    head = [m for m in model.consensus.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(m.training for m in head)
    before = [m.running_mean.clone() for m in norms]
    model(clips(cfg))
    changed = [not torch.equal(a, m.running_mean) for a, m in zip(before, norms)]
    assert changed == [True] + [False] * (len(norms) - 1)


def test_groups_of_the_published_optimizer():
    cfg, model = build(
        "TSN",
        {
            "TSN.BACKBONE": "squeezenet1_1",
            "TSN.CONSENSUS": "FCN2D",
            "SOLVER.WEIGHT_DECAY": 0.5,
            "TSN.LR_GROUPS": True,
        },
    )
    optimizer = build_optimizer(cfg, model)
    found = {
        name: (group["weight_decay"], group["lr_scale"])
        for group, names in zip(optimizer.param_groups, optimizer.group_names)
        for name in names
    }
    assert found["base_model.0.weight"] == (0.5, 1.0) and found["base_model.0.bias"] == (0.0, 2.0)
    assert found["base_model.3.squeeze.bias"] == (0.0, 2.0)
    assert found["new_fc.weight"] == found["new_fc.bias"] == (0.5, 1.0)
    assert found["consensus.classifier.1.bias"] == (0.0, 2.0)
    assert found["consensus.classifier.2.weight"] == (0.0, 1.0)
    assert len(found) == len(list(model.parameters()))
    cfg, model = build("TSN", {"TSN.LR_GROUPS": False})
    assert all(group["lr_scale"] == 1.0 for group in build_optimizer(cfg, model).param_groups)


@pytest.fixture
def registries(monkeypatch):
    """The registries of heads and backbones; what a test adds is gone after it."""
    for registry in (HEAD_REGISTRY, BACKBONE_REGISTRY):
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))
    return HEAD_REGISTRY, BACKBONE_REGISTRY


class MaxConsensus(nn.Module):
    """A head as another package would write it."""

    def __init__(self, options):
        super().__init__()
        self.fc = nn.Linear(options.dim, options.num_classes)

    def forward(self, x):
        return self.fc(x.amax(1))


def one_convolution():
    return nn.Conv2d(3, 6, 3, stride=4), 6


def test_own_head_and_backbone_are_trained(registries):
    heads, backbones = registries
    heads.register("max")(MaxConsensus)
    backbones.register("one_convolution")(one_convolution)
    cfg, model = build("TSN", {"TSN.CONSENSUS": "max", "TSN.BACKBONE": "one_convolution"})
    assert isinstance(model.consensus, MaxConsensus)
    assert model.classifier_prefixes == ("consensus.fc.",)
    assert backbone_input("one_convolution") == IMAGENET
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = build_optimizer(cfg, model)
    video, labels = clips(cfg), torch.tensor([0, 3])
    first = nn.functional.cross_entropy(model(video), labels)
    first.backward()
    optimizer.step()
    assert all(not torch.equal(before[n], p) for n, p in model.named_parameters())
    assert nn.functional.cross_entropy(model(video), labels) < first


def test_own_head_takes_maps_or_logits(registries):
    """A head says what it takes, and which of its parameters depend on the classes."""

    class OverMaps(nn.Module):
        wants_maps, classifier_prefixes = True, ("last.",)

        def __init__(self, options):
            super().__init__()
            self.last = nn.Linear(options.dim, options.num_classes)

        def forward(self, x):
            return self.last(x.mean((1, 3, 4)))

    class OverLogits(nn.Module):
        wants_logits = True

        def __init__(self, options):
            super().__init__()

        def forward(self, x):
            return x.amax(1)

    registries[0].register("maps")(OverMaps)
    registries[0].register("logits")(OverLogits)
    small = {"num_classes": 3, "num_frames": 2, "backbone": "timm/test_efficientnet"}
    video = torch.randn(2, 3, 2, 32, 32)
    maps = Tsn(**small, consensus="maps", feature_dim=5)
    assert maps.new_fc.weight.ndim == 4 and maps(video).shape == (2, 3)
    assert maps.classifier_prefixes == ("consensus.last.",)
    logits = Tsn(**small, consensus="logits", feature_dim=5)
    assert logits.new_fc.weight.shape[0] == 3 and logits(video).shape == (2, 3)
    assert logits.classifier_prefixes == ("new_fc.",)


def test_constructor_needs_no_configuration():
    model = Tsn(num_classes=7, num_frames=3, consensus="TRN", backbone="timm/test_efficientnet")
    assert model(torch.randn(1, 3, 3, 32, 32)).shape == (1, 7)
    with pytest.raises(UserError, match="no head is called 'TRM'.*\n.*TRN"):
        Tsn(consensus="TRM", backbone="timm/test_efficientnet")
    with pytest.raises(UserError, match="no backbone is called 'squeezenet'"):
        Tsn(backbone="squeezenet")
