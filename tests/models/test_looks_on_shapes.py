"""Trained networks look at the moving shape, whose place in the embedded videos is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import slowfast
from slowfast.config.load import load_config
from slowfast.datasets import shapes_render
from slowfast.datasets.moving_shapes import ShapesSpec, generate
from slowfast.engine.launch import launch
from slowfast.engine.run import run_job
from slowfast.inference.predictor import Predictor
from slowfast.models.looks import look
from slowfast.utils.seeding import sample_rng
from tests.conftest import words

TEST = 2  # number of the split in the seed


def render(
    pair: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[np.ndarray, np.ndarray]:
    """A test clip of class ``2 * pair``, and where its moving shape is: both ``T H W 3``."""
    paste, masks = shapes_render._paste, {}

    def spy(frame, texture, mask, pose, t):
        place = np.zeros_like(frame)
        paste(place, np.full_like(texture, 255.0), mask, pose, t)
        masks[t] = place  # the moving shape is drawn last
        paste(frame, texture, mask, pose, t)

    name = shapes_render.CLASSES[2 * pair]
    with monkeypatch.context() as patch:
        patch.setattr(shapes_render, "_paste", spy)
        clip = shapes_render.render_clip(name, sample_rng(0, TEST, number, f"shapes {name}"))
    return clip, np.stack([masks[t] for t in sorted(masks)]).astype(np.uint8)


def shares_on_shape(
    predictor: Predictor, method: str, videos: int, monkeypatch: pytest.MonkeyPatch
) -> np.ndarray:
    """Rows (share of the map on the shape, share of the area), one for each clip: ``videos`` of
    each of the eight classes."""
    rows = []
    for pair in range(4):
        for number in range(videos):
            frames = render(pair, number, monkeypatch)
            for step in (1, -1):  # the second class of a pair is the first one backwards
                clip, mask = (np.ascontiguousarray(part[::step]) for part in frames)
                views = predictor.preprocess(clip)
                central = len(views) // 2
                seen = look(predictor.model, views[central : central + 1], method=method)
                on = predictor.picture(predictor.preprocess(mask))[central, ..., 0] > 127
                shares = F.interpolate(seen.shares[:, None], on.shape, mode="nearest")[0, 0]
                if shares.any():
                    rows.append((float(shares[on].sum() / shares.sum()), float(on.float().mean())))
    return np.array(rows)


def test_the_shape_is_where_the_mask_says(monkeypatch):
    clip, mask = render(0, 0, monkeypatch)
    assert clip.shape == mask.shape and 0.02 < (mask > 127).mean() < 0.3
    centre = (mask[..., 0] > 127).nonzero()
    first, last = (centre[2][centre[0] == t].mean() for t in (0, 23))
    assert last < first - 10  # "left"


@pytest.mark.slow
def test_stfm_looks_at_the_moving_shape(tmp_path: Path, monkeypatch):
    """The quickstart: about five minutes on two cores."""
    spec = ShapesSpec(8, 200, 12, 25)
    generate(tmp_path / "set", spec, progress=False)
    values = {"DATA.PATH_TO_DATA_DIR": str(tmp_path / "set"), "OUTPUT_DIR": str(tmp_path / "out")}
    launch(load_config(["configs/quickstart/stfm.yaml"], words(values)), run_job)
    predictor = slowfast.load(tmp_path / "out", "cpu")
    with torch.inference_mode():
        on, area = shares_on_shape(predictor, "attention", 4, monkeypatch).T
    assert on.mean() > 2 * area.mean() and (on > area).mean() > 0.9
