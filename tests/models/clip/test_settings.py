"""Configurations of CLIP that cannot work, and sizes."""

from __future__ import annotations

import os

import pytest
import torch

from slowfast.config.defaults import get_cfg
from slowfast.config.load import load_config
from slowfast.engine.network import build_network
from slowfast.models.base import MODEL_REGISTRY
from slowfast.models.clip import settings, texts
from slowfast.models.clip.sizes import ClipSizes, infer_sizes
from slowfast.models.clip.towers import CLIP
from slowfast.utils.errors import UserError
from tests.conftest import words
from tests.models.clip.helpers import NAME
from tests.models.helpers import build

STDD = {"MODEL.TEMPORAL_MODELING_TYPE": "stcross_attend"}


def refused(extra: dict) -> str:
    tiny = {"NUM_GPUS": 0, "MODEL.MODEL_NAME": NAME} | MODEL_REGISTRY.get(NAME).spec.test_overrides
    with pytest.raises(UserError) as caught:
        build_network(load_config(overrides=words(tiny | extra)))
    return str(caught.value)


@pytest.mark.parametrize(
    "extra, expected",
    [
        ({"DATA.CLASS_NAMES": []}, "DATA.INDEX_LABEL_MAPPING_FILE: this network reads the names"),
        ({"MODEL.ARCH": "vitb17"}, "MODEL.ARCH: 'vitb17' is not one of vitb32, vitb16, vitl14"),
        ({"MODEL.RAW_MODEL_DISTILLATION": True}, "set MODEL.KEEP_RAW_MODEL True"),
        ({"MODEL.ENSEMBLE_PRED": True}, "MODEL.ENSEMBLE_PRED: needs the frozen copy"),
        ({"TRAIN.LINEAR_CONNECT_CLIMB": True}, "set TRAIN.CLIP_ORI_PATH"),
        ({"MODEL.NUM_EXPERTS": 2}, "MODEL.NUM_EXPERTS"),
        ({"TUNE_HEAD": True, "MODEL.TEXT_PROMPT": True}, "TUNE_HEAD: excludes MODEL.TEXT_PROMPT"),
        ({"DATA.TRAIN_CROP_SIZE": 36}, "DATA.TRAIN_CROP_SIZE: 36 is not a whole number of patches"),
        (STDD | {"DATA.TEST_CROP_SIZE": 40}, "in cells of 2 x 2"),
        (STDD | {"MODEL.MASK_STRIDE": [2, 2, 2]}, "MODEL.MASK_STRIDE: [2, 2, 2]"),
        ({"CLIP.WIDTH": 100}, "CLIP.WIDTH: is not a multiple of 64"),
        ({"CLIP.TRAINED": ["vision"]}, "CLIP.TRAINED: ['vision'] are unknown"),
        ({"MODEL.TEMPORAL_MODELING_TYPE": "stcross_attn_"}, "did you mean"),
        ({"CLIP.TEMPLATES": ["a photo."]}, "'a photo.' has no place for a class name"),
        ({"DATA.TEXT_AUG": True}, "DATA.TEXT_AUG_FEATURE_FILE: is not set"),
        (
            {"DATA.TEXT_AUG": True, "DATA.TEXT_AUG_FEATURE_FILE": "none.pt"},
            "there is no file none.pt",
        ),
    ],
)
def test_settings_that_cannot_work(extra, expected):
    assert expected in refused(extra)


@pytest.mark.parametrize(
    "shape, expected",
    [
        ((5, 3, 16), "holds features of width 16, this CLIP's have 32"),
        ((4, 3, 32), "has texts of 4 classes, there are 5"),
        ((5,), "classes x texts x width is needed"),
    ],
)
def test_text_features_that_do_not_fit(shape, expected, tmp_path):
    torch.save(torch.randn(shape), tmp_path / "f.pt")
    words = {"DATA.TEXT_AUG": True, "DATA.TEXT_AUG_FEATURE_FILE": tmp_path / "f.pt"}
    assert expected in refused(words)


def test_text_features_that_cannot_be_read(tmp_path):
    for name in ("f.pt", "f.safetensors"):
        (tmp_path / name).write_bytes(b"no tensor")
        text = refused({"DATA.TEXT_AUG": True, "DATA.TEXT_AUG_FEATURE_FILE": tmp_path / name})
        assert f"{name} cannot be read" in text and "DATA.TEXT_AUG_FEATURE_FILE" in text


def test_class_map_with_gaps(tmp_path):
    (tmp_path / "map.json").write_text('{"0": "a", "2": "b"}')
    extra = {"DATA.CLASS_NAMES": [], "DATA.INDEX_LABEL_MAPPING_FILE": tmp_path / "map.json"}
    text = refused(extra)
    assert "without gaps, 1 is missing" in text and "map.json" in text


def test_tokenizer_missing(monkeypatch):
    texts.load_tokenizer.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "open_clip.tokenizer", None)
    assert 'pip install "slowfast[clip]"' in refused({})
    texts.load_tokenizer.cache_clear()


def test_vocabulary_missing(monkeypatch):
    import open_clip.tokenizer

    def missing():
        raise FileNotFoundError("bpe_simple_vocab_16e6.txt.gz")

    texts.load_tokenizer.cache_clear()
    monkeypatch.setattr(open_clip.tokenizer, "SimpleTokenizer", missing)
    assert "open_clip has no vocabulary: bpe_simple_vocab" in refused({})
    texts.load_tokenizer.cache_clear()


def test_sizes_are_read_off():
    sizes = ClipSizes(16, 128, 3, 48, 64, 20, text_width=64, text_layers=2)
    network = CLIP(sizes)
    assert infer_sizes(network.state_dict()) == sizes
    with pytest.raises(UserError, match="no weights of a CLIP"):
        infer_sizes({"conv1.weight": torch.zeros(1)})


def test_sizes_of_a_file_are_read_once(tmp_path, monkeypatch):
    """Validation and the constructor share them; a file that has changed is read again."""
    reads, read_clip = [], settings.read_clip
    monkeypatch.setattr(settings, "read_clip", lambda *a: reads.append(1) or read_clip(*a))
    path = tmp_path / "clip.pt"
    for count, layers in enumerate((1, 2), 1):
        torch.save(CLIP(ClipSizes(8, 64, layers, 16, 32, 16, text_layers=1)).state_dict(), path)
        os.utime(path, ns=(count, count))
        _, model = build(NAME, {"TRAIN.CLIP_ORI_PATH": path})
        assert model.model.sizes.layers == layers and len(reads) == count


def test_original_weights_of_the_test_come_first():
    cfg = get_cfg()
    cfg.merge_from_list(["TRAIN.CLIP_ORI_PATH", "a.pt"])
    assert settings.original_weights(cfg) == "a.pt"
    cfg.merge_from_list(["TEST.CLIP_ORI_PATH", "b.pt"])
    assert settings.original_weights(cfg) == "b.pt"
