"""Networks with the class names of the data; texts of classes over a run."""

from __future__ import annotations

import json

import pytest
import torch

from slowfast.config.load import load_config
from slowfast.engine.network import build_network
from slowfast.engine.tasks import build_task
from slowfast.engine.train import Trainer
from slowfast.models.base import MODEL_REGISTRY
from slowfast.utils.errors import UserError
from slowfast.utils.runtime import Runtime
from tests.conftest import TINY, words

CLIP = {"MODEL.MODEL_NAME": "TemporalClipVideo", "NUM_GPUS": 0}
CLIP |= dict(MODEL_REGISTRY.get("TemporalClipVideo").spec.test_overrides)


def test_the_network_gets_the_names_of_the_data(tmp_path):
    (tmp_path / "map.json").write_text(json.dumps({"0": "a cat", "1": "a dog"}))
    file = {"DATA.CLASS_NAMES": [], "DATA.INDEX_LABEL_MAPPING_FILE": tmp_path / "map.json"}
    cfg = load_config(overrides=words(CLIP | file))
    assert cfg.MODEL.NUM_CLASSES == 2
    assert build_network(cfg).texts.names == ["a cat", "a dog"]


def test_names_are_needed():
    with pytest.raises(UserError, match="DATA.INDEX_LABEL_MAPPING_FILE: this network reads"):
        load_config(overrides=words(CLIP | {"DATA.CLASS_NAMES": []}))
    load_config(overrides=words({"NUM_GPUS": 0, "MODEL.MODEL_NAME": "FrameAverage"}))


@pytest.mark.parametrize(
    "extra",
    [
        {"CLIP.TRAINED": ["visual"]},
        {"CLIP.TRAINED": ["visual", "text_projection"]},
        {"CLIP.TRAINED": ["visual", "text_projection"], "EMA.ENABLE": True},
    ],
)
def test_validation_before_training(extra, shapes, tmp_path):
    """A run that is resumed before a validation encodes its texts there, and trains with them."""
    values = TINY | CLIP | extra
    values |= {
        "TRAIN.DATASET": "moving_shapes",
        "TEST.DATASET": "moving_shapes",
        "DATA.PATH_TO_DATA_DIR": shapes,
        "DATA.CLASS_NAMES": [],
        "OUTPUT_DIR": tmp_path,
        "TENSORBOARD.ENABLE": False,
    }
    cfg = load_config(overrides=words(values))
    runtime = Runtime(torch.device("cpu"))
    trainer = Trainer(cfg, runtime, build_task(cfg, runtime))
    before = trainer.model.model.visual.proj.detach().clone()
    trainer.validate(trainer.val_observer(0))
    trainer.train_epoch(0)
    assert not torch.equal(trainer.model.model.visual.proj, before)
    trainer.validate(trainer.val_observer(0))
