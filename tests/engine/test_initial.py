"""Weights to start from and weights to test: which file is taken, and that it is read once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from slowfast.engine import checkpoint, initial
from slowfast.models import build_model
from slowfast.models.weights import read
from slowfast.utils.errors import UserError

SMALL = {"MODEL.MODEL_NAME": "FrameAverage", "FRAME_AVERAGE.WIDTHS": [4], "EMA.ENABLE": True}


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are read."""
    names, original = [], read.read_content

    def read_content(path, *options):
        names.append(Path(path).name)
        return original(path, *options)

    monkeypatch.setattr(read, "read_content", read_content)
    return names


def save(cfg, path, value, **content):
    """A checkpoint of this package whose weights are all ``value``."""
    state = {name: torch.full_like(v, value) for name, v in build_model(cfg).state_dict().items()}
    checkpoint.save_checkpoint(path, {"model_state": state, "sampler_state": {}} | content)


def test_the_newest_checkpoint_is_read_once(make_cfg, tmp_path, reads):
    cfg = make_cfg(SMALL | {"OUTPUT_DIR": tmp_path})
    for epoch in (1, 2):
        path = checkpoint.checkpoint_path(tmp_path, epoch)
        save(cfg, path, float(epoch), class_names=["a", "b", "c", "d"])
    model = build_model(cfg)
    weights = initial.load_tested_weights(cfg, model)
    assert reads == ["checkpoint_epoch_00002.pyth"]
    assert weights.class_names == ["a", "b", "c", "d"] and weights.epoch is None
    assert weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (model.head.weight == 2).all()


def test_averaged_weights_are_tested(make_cfg, tmp_path):
    cfg = make_cfg(SMALL | {"OUTPUT_DIR": tmp_path})
    average = {n: torch.full_like(v, 7) for n, v in build_model(cfg).state_dict().items()}
    save(cfg, checkpoint.checkpoint_path(tmp_path, 1), 1.0, ema_state=average)
    model = build_model(cfg)
    initial.load_tested_weights(cfg, model)
    assert (model.head.weight == 7).all()


def test_a_named_foreign_file_is_read_once(make_cfg, tmp_path, reads):
    cfg = make_cfg(SMALL | {"TEST.CHECKPOINT_FILE_PATH": tmp_path / "w.pth"})
    donor = build_model(cfg)
    torch.save({"state_dict": donor.state_dict()}, tmp_path / "w.pth")
    model = build_model(cfg)
    initial.load_tested_weights(cfg, model)
    assert reads == ["w.pth"] and torch.equal(model.head.weight, donor.head.weight)


def test_nothing_to_test_and_another_architecture(make_cfg, tmp_path):
    cfg = make_cfg(SMALL | {"OUTPUT_DIR": tmp_path / "empty"})
    with pytest.raises(UserError, match="there are no weights to test"):
        initial.load_tested_weights(cfg, build_model(cfg))
    save(cfg, checkpoint.checkpoint_path(tmp_path / "empty", 1), 1.0)
    other = make_cfg(SMALL | {"OUTPUT_DIR": tmp_path / "empty", "FRAME_AVERAGE.WIDTHS": [4, 4]})
    with pytest.raises(UserError, match="another architecture"):
        initial.load_tested_weights(other, build_model(other))
