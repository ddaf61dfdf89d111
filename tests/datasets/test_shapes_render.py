"""The embedded clips stay what they are: results on them are compared over versions."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from slowfast.datasets.shapes_render import PAIRS, render_clip, render_composition
from slowfast.utils.seeding import sample_rng

# Brightness of 3 x 4 fields in the first, middle and last frame, and the mean colour of the clip.
KNOWN = json.loads((Path(__file__).parent / "rendered_clips.json").read_text())
COMPOSED = (
    "left straight steady",
    "right arc accelerating",
    "up zigzag braking",
    "down arc steady",
)
NAMES = [f"{name} {seed}" for name in [*(p[0] for p in PAIRS), *COMPOSED] for seed in (0, 1, 2)]


def render(name: str) -> np.ndarray:
    *words, seed = name.split()
    rng = sample_rng(int(seed), 0, 0, "known clips")
    return render_composition(*words, rng) if len(words) == 3 else render_clip(words[0], rng)


def look(clip: np.ndarray) -> list[int]:
    grey = [cv2.cvtColor(clip[t], cv2.COLOR_RGB2GRAY) for t in (0, 12, 23)]
    fields = [cv2.resize(g, (4, 3), interpolation=cv2.INTER_AREA).ravel() for g in grey]
    return [*map(int, np.concatenate(fields)), *clip.mean((0, 1, 2)).round().astype(int).tolist()]


@pytest.mark.parametrize("name", NAMES)
def test_known_clips(name):
    # OpenCV's versions round differently, by a level.
    assert np.abs(np.array(look(render(name))) - KNOWN[name]).max() <= 2


def test_all_of_them_differ():
    known = [tuple(KNOWN[name]) for name in NAMES]
    assert len(set(known)) == len(known) == len(KNOWN)
