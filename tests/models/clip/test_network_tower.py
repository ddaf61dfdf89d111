"""Networks of the registry as CLIP's visual tower, and the convolutional stem of its transformer."""

from __future__ import annotations

import pytest
import torch

from slowfast.layers.patch_embed import ConvStem
from slowfast.models.base import MODEL_REGISTRY
from slowfast.models.clip.network_tower import NetworkTower
from slowfast.models.fewshot import embed_clips
from tests.models.clip.helpers import NAME
from tests.models.clip.test_settings import refused
from tests.models.helpers import NAMES, build, clips, to_eval

TEXT = ["visual", "text", "text_projection", "logit_scale"]


def with_tower(name: str, extra: dict | None = None):
    """CLIP's tiny text tower beside the tiny variant of another network."""
    tiny = {
        key: value
        for key, value in MODEL_REGISTRY.get(name).spec.test_overrides.items()
        if not key.startswith(("MODEL.MODEL_NAME", "MODEL.NUM_CLASSES"))
    }
    plain = {"MODEL.TEMPORAL_MODELING_TYPE": "", "CLIP.TRAINED": TEXT}
    return build(NAME, tiny | plain | {"CLIP.VISUAL_TOWER": name} | (extra or {}))


@pytest.mark.parametrize("name", [name for name in NAMES if name != NAME])
def test_every_network_can_be_the_visual_tower(name):
    """Whatever learns gets a gradient, whatever does not is frozen, classifiers included."""
    cfg, model = with_tower(name)
    model.train()
    video = clips(cfg)
    assert model.forward_features(video).shape == (2, 1, cfg.CLIP.EMBED_DIM)
    scores = model(video)
    assert scores.shape == (2, 5)
    scores[:, 0].sum().backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    for prefix in MODEL_REGISTRY.get(name).spec.classifier_of(model.model.visual.base):
        frozen = [p for n, p in model.model.visual.base.named_parameters() if n.startswith(prefix)]
        assert not any(p.requires_grad for p in frozen) or name == "TSN"


def test_scores_are_cosines_of_the_projected_feature():
    cfg, model = with_tower("ResNet3D")
    to_eval(model)
    video = clips(cfg)
    with torch.no_grad():
        tower = model.model.visual
        clip = embed_clips(tower.base, video, "vectors") @ tower.proj
        text = model.model.encode_text(model.texts.tokens[0])
        expected = torch.cosine_similarity(clip[:, None], text[None], dim=-1)
        expected = expected * model.model.logit_scale.exp()
        assert torch.allclose(model(video), expected, atol=1e-4)


def test_the_tower_reads_the_keys_of_its_network():
    _, narrow = with_tower("ResNet3D")
    _, wide = with_tower("ResNet3D", {"RESNET3D.WIDEN_FACTOR": 0.5})
    assert isinstance(wide.model.visual, NetworkTower)
    assert len(wide.model.visual.proj) != len(narrow.model.visual.proj)


def test_weights_fit_whatever_the_number_of_classes():
    _, model = with_tower("ResNet3D")
    _, fewer = with_tower("ResNet3D", {"DATA.CLASS_NAMES": ["archery"], "MODEL.NUM_CLASSES": 1})
    fewer.load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    "extra, expected",
    [
        ({}, "MODEL.TEMPORAL_MODELING_TYPE: needs CLIP's vision transformer"),
        ({"MODEL.KEEP_RAW_MODEL": True}, "MODEL.KEEP_RAW_MODEL: needs CLIP's vision transformer"),
        ({"CLIP.VISUAL_TOWER": "ResNet3Dd"}, "did you mean"),
        ({"CLIP.VISUAL_TOWER": NAME}, "CLIP.VISUAL_TOWER: TemporalClipVideo has two towers itself"),
    ],
)
def test_what_a_network_tower_cannot_do(extra, expected):
    assert expected in refused({"CLIP.VISUAL_TOWER": "ResNet3D"} | extra)


def test_weights_of_the_tower_alone_are_refused():
    """TRAIN.CHECKPOINT_FILE_PATH is the only start of the whole network."""
    plain = {"MODEL.TEMPORAL_MODELING_TYPE": ""}
    for name, key in (
        ("ResNet3D", "RESNET3D.PRETRAIN_NAME"),
        ("TimeSformer", "TIMESFORMER.PRETRAINED_MODEL"),
    ):
        given = MODEL_REGISTRY.get(name).spec.test_overrides | {key: "nothing.pth"} | plain
        given |= {"MODEL.MODEL_NAME": NAME, "CLIP.VISUAL_TOWER": name}
        assert f"{key}: 'nothing.pth' would not be loaded" in refused(given)


def test_the_tower_is_trained_as_its_network():
    """Factors of TSN, decay of STAM's positions, channel order and scale of BN-Inception."""
    _, model = with_tower("STAM")
    assert {"pos_embed", "cls_token"} <= model.spec.no_weight_decay(model)
    cfg, model = with_tower("TSN", {"TSN.INPUT": "backbone"})
    base = model.model.visual.base
    expected = {
        f"model.visual.base.{n}": pair for n, pair in base.spec.param_multipliers(base).items()
    }
    found = model.spec.param_multipliers(model)
    assert expected and expected.items() <= found.items()
    assert found.keys() <= dict(model.named_parameters()).keys()
    own = cfg.with_value("MODEL.MODEL_NAME", "TSN", "")
    assert model.spec.input_format(cfg) == base.spec.input_format(own) is not None
    cfg, plain = build(NAME)
    assert plain.spec.input_format(cfg) is None


def test_attention_of_another_tower_is_not_shown():
    _, model = with_tower("ResNet3D")
    assert model.attention_map(None, (1, 3, 4, 32, 32)) is None


@pytest.mark.parametrize("stem, reach", [("conv", 0), ("conv3d", 2)])
def test_convolutional_stem(stem, reach):
    """Without temporal modelling a frame changes the features of others by conv3d alone: by one
    frame per convolution, of which patches of 4 pixels take two."""
    words = {"CLIP.STEM": stem, "CLIP.PATCH_SIZE": 4, "MODEL.TEMPORAL_MODELING_TYPE": "None"}
    _, model = build(NAME, words)
    tower = model.model.visual.eval()
    assert isinstance(tower.conv1, ConvStem)
    video = torch.randn(1, 3, 7, 32, 32)
    changed = video.clone()
    changed[:, :, 3] = 0
    with torch.no_grad():
        differs = (tower(video) != tower(changed)).any(-1)[0]
    assert differs.tolist() == [abs(frame - 3) <= reach for frame in range(7)]
