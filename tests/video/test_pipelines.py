"""Whole pipelines: what of a frame reaches the network."""

from __future__ import annotations

import numpy as np
import torch

from slowfast.config.load import load_config
from slowfast.video.pipelines import build_test_pipeline
from tests.conftest import noise_clip, words


def colours(height: int, width: int) -> np.ndarray:
    """A frame whose left edge is red, right edge blue, the rest grey: uint8 ``1 H W 3``."""
    frame = np.full((1, height, width, 3), 128, np.uint8)
    frame[:, :, : width // 8] = (255, 0, 0)
    frame[:, :, -width // 8 :] = (0, 0, 255)
    return frame


def test_stam_448_squeezes_the_whole_frame():
    """STAM's protocol for 448 pixels: frames become squares, nothing is cut off; at 224 a centre
    crop of a 256 short side loses both edges of a wide frame."""
    stam = ["configs/Kinetics/STAM_16.yaml"]
    large = {"DATA.TEST_CROP_SIZE": 448, "TEST.SHORT_SIDE": 448, "DATA.KEEP_ASPECT": False}
    for extra, seen in ((large, True), ({}, False)):
        cfg = load_config(stam, words({"NUM_GPUS": 0} | extra))
        (clip,) = build_test_pipeline(cfg, False)([colours(240, 480)])
        side = cfg.DATA.TEST_CROP_SIZE
        assert clip.shape == (3, 1, side, side)
        red = clip[:, 0, side // 2, 1].tolist() == [255, 0, 0]
        blue = clip[:, 0, side // 2, -2].tolist() == [0, 0, 255]
        assert (red, blue) == (seen, seen)
        if seen:  # an eighth of the width stays an eighth
            reds = (clip[0, 0, side // 2] == 255) & (clip[1, 0, side // 2] == 0)
            assert abs(int(torch.count_nonzero(reds)) - side // 8) <= 1


def test_frames_of_an_array_are_not_confused(make_cfg):
    """A clip that is one array gives its frames as temporary views; each is resized by itself."""
    pipeline = build_test_pipeline(make_cfg(), False)
    clip = noise_clip(12, 40, 60)
    assert torch.equal(pipeline([clip]), pipeline([list(clip)]))
