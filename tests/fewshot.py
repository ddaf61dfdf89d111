"""Configurations of few-shot tests: tiny clips and episodes."""

from __future__ import annotations

from pathlib import Path

from slowfast.config.load import load_config
from slowfast.config.node import CfgNode
from tests.conftest import words

# Clips of 4 x 32 x 32 and a 3-D ResNet-10 of an eighth of its width.
TINY_FEWSHOT = {
    "NUM_GPUS": 0,
    "TRAIN.MIXED_PRECISION": False,
    "TASK": "fewshot",
    "MODEL.MODEL_NAME": "ResNet3D",
    "RESNET3D.DEPTH": 10,
    "RESNET3D.WIDEN_FACTOR": 0.125,
    "RESNET3D.CONV1_T_SIZE": 3,
    "DATA.NUM_FRAMES": 4,
    "DATA.TRAIN_JITTER_SCALES": [32, 36],
    "DATA.TRAIN_CROP_SIZE": 32,
    "DATA.TEST_CROP_SIZE": 32,
    "DATA.RANDOM_FLIP": False,
    "FEWSHOT.WAY": 3,
}


def fewshot_cfg(folder: Path, extra: dict | None = None) -> CfgNode:
    """A configuration of the few-shot set in ``folder`` (lists, and clips below ``videos``)."""
    data = {"DATA.PATH_TO_DATA_DIR": folder, "DATA.PATH_PREFIX": folder / "videos"}
    return load_config(overrides=words(TINY_FEWSHOT | data | (extra or {})))
