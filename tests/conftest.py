"""Fixtures: tiny real videos, lists and configurations. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast.config.load import load_config
from slowfast.datasets.compositions import CompositionsSpec
from slowfast.datasets.compositions import generate as write_compositions
from slowfast.datasets.moving_shapes import ShapesSpec, generate
from slowfast.utils.logging import close_logging
from slowfast.video.writer import write_mp4
from tests.scripts import run_script
from tests.storage import serving

ROOT = Path(__file__).resolve().parent.parent
SHARED_CLIPS = ROOT.parent / "shared" / "data" / "real_clips"

torch.set_num_threads(1)

# A network and clips so small that a training takes a second.
TINY = {
    "NUM_GPUS": 0,
    "LOG_MODEL_INFO": False,
    "LOG_PERIOD": 2,
    "REPORT.ENABLE": False,
    # On every machine alike: the default depends on the processor.
    "TRAIN.MIXED_PRECISION": False,
    "TRAIN.BATCH_SIZE": 4,
    "TRAIN.EVAL_PERIOD": 1,
    "TRAIN.CHECKPOINT_PERIOD": 1,
    "TEST.NUM_SPATIAL_CROPS": 3,
    "TEST.NUM_ENSEMBLE_VIEWS": 2,
    "DATA_LOADER.NUM_WORKERS": 0,
    "DATA.NUM_FRAMES": 4,
    "DATA.SAMPLING": "segment",
    "DATA.TRAIN_JITTER_SCALES": [32, 36],
    "DATA.TRAIN_CROP_SIZE": 32,
    "DATA.TEST_CROP_SIZE": 32,
    "MODEL.NUM_CLASSES": 4,
    "UNIFORMER.DEPTH": [1, 1, 1, 1],
    "UNIFORMER.EMBED_DIM": [8, 16, 32, 32],
    "UNIFORMER.HEAD_DIM": 16,
    "SOLVER.MAX_EPOCH": 2,
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.OPTIMIZING_METHOD": "adamw",
}


def words(values: dict) -> list[str]:
    """``{"KEY": value}`` as KEY VALUE words."""
    return [text for key, value in values.items() for text in (key, str(value))]


@pytest.fixture(autouse=True)
def _detach_logging():
    yield
    close_logging()


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    """A moving_shapes set of four classes: 16 training, 8 validation, 8 test clips."""
    folder = tmp_path_factory.mktemp("shapes")
    generate(folder, ShapesSpec(classes=4, train=4, val=2, test=2), workers=1, progress=False)
    return folder


@pytest.fixture(scope="session")
def compositions(tmp_path_factory) -> Path:
    """36 classes of composed motions, three clips each, in three few-shot lists."""
    folder = tmp_path_factory.mktemp("compositions")
    write_compositions(folder, CompositionsSpec(train=3, test=3), workers=1, progress=False)
    return folder


@pytest.fixture(scope="session")
def _storage():
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    with serving() as storage:
        yield storage


@pytest.fixture
def storage(_storage, monkeypatch, tmp_path):
    """An S3 server on the loopback interface, in the environment of the test."""
    for name, value in _storage.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLOWFAST_CACHE", str(tmp_path / "cache"))
    _storage.requests.clear(), _storage.faults.clear()
    yield _storage
    _storage.faults.clear()


@pytest.fixture
def tiny_words(shapes, tmp_path) -> dict:
    """KEY VALUE words of a run that trains and tests in a second."""
    return TINY | {
        "TRAIN.DATASET": "moving_shapes",
        "TEST.DATASET": "moving_shapes",
        "DATA.PATH_TO_DATA_DIR": str(shapes),
        "OUTPUT_DIR": str(tmp_path / "out"),
    }


@pytest.fixture
def make_cfg(tiny_words):
    """``make_cfg({"KEY": value})`` -> a frozen tiny configuration."""

    def make(extra: dict | None = None, **_):
        return load_config(overrides=words(tiny_words | (extra or {})))

    return make


def noise_clip(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth random frames, each different: uint8 ``T H W 3``."""
    import cv2

    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (frames, 6, 8, 3)).astype(np.uint8)
    return np.stack([cv2.resize(f, (width, height), interpolation=cv2.INTER_CUBIC) for f in small])


@pytest.fixture(scope="session")
def video(tmp_path_factory) -> Path:
    """A real H.264 file with B-frames: 50 frames of 96x64 at 25 fps, four keyframes."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_mp4(path, noise_clip(50, 64, 96), fps=25, gop=15, preset="medium")
    return path


def run_tool(*args: str, cwd: Path | None = None, env: dict | None = None):
    """Run ``python tools/<args>`` from the repository root."""
    return run_script(ROOT / "tools" / args[0], *args[1:], cwd=cwd or ROOT, env=env)
