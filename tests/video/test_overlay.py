"""Heat maps, tokens and titles over frames; animated pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from slowfast.utils.errors import UserError
from slowfast.video.overlay import add_title, animated, colormap, draw_heat, draw_tokens, enlarge


def grey(frames: int = 3, side: int = 32) -> np.ndarray:
    return np.full((frames, side, side, 3), 100, np.uint8)


def test_heat_leaves_cold_places_alone():
    maps = np.zeros((3, 32, 32), np.float32)
    maps[1, 8:16, 8:16] = 1
    drawn = draw_heat(grey(), maps, colormap("turbo"))
    changed = (drawn != 100).any(-1)
    assert np.array_equal(changed, maps > 0)
    hottest = colormap("turbo")[255] * 0.65 + 100 * 0.35
    assert np.abs(drawn[1, 10, 10] - hottest).max() <= 1


def test_colour_maps_by_name():
    red_last = colormap("jet")[255]
    assert red_last[0] > 100 and red_last[2] < 50  # RGB
    assert colormap("Pastel2").shape == (256, 3) and colormap("Pastel2").dtype == np.uint8
    with pytest.raises(UserError, match="no colour map 'nothing'"):
        colormap("nothing")


def test_colour_maps_of_matplotlib_name_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert len(colormap("turbo")) == 256
    with pytest.raises(UserError, match=r"\[plot\]"):
        colormap("Pastel2", "TENSORBOARD.MODEL_VIS.COLORMAP")


def test_frames_are_enlarged_by_whole_factors():
    assert enlarge(grey(2, 64), 192).shape == (2, 192, 192, 3)
    assert enlarge(grey(2, 224), 192).shape == (2, 224, 224, 3)


def test_tokens_stand_where_they_are():
    frames = grey(4, 64)
    centres = np.array([[[16.0, 16.0], [48.0, 48.0]], [[40.0, 16.0], [40.0, 16.0]]])
    draw_tokens(frames, centres, [0, 2], 16)
    changed = (frames != 100).any(-1)
    assert np.array_equal(frames[0], frames[1]) and np.array_equal(frames[2], frames[3])
    assert changed[0, 8, 8:24].all() and changed[0, 40, 40:56].all()
    assert not changed[0, 30:38].any()
    # Later: both at one place, one inside the other, each with a line from where it was.
    assert changed[2, 8, 33:47].all() and changed[2, 10, 35:45].all()
    assert changed[2, 16, 16:32].all()


def test_titles_are_above_the_frames():
    titled = add_title(grey(), ["one", "two " * 40], [np.array([255, 255, 0])])
    assert titled.shape == (3, 32 + 44, 32, 3)
    assert np.array_equal(titled[:, 44:], grey())
    assert tuple(titled[0, 2, 31]) == (255, 255, 0) and tuple(titled[0, 24, 31]) == (255,) * 3


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_animations_can_be_read_back(kind: str):
    frames = np.zeros((4, 24, 32, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[:, number * 8 : number * 8 + 8] = (200, 40 * number, 0)
    with Image.open(io.BytesIO(animated(frames, 4, kind))) as image:
        assert image.n_frames == 4 and image.size == (32, 24) and image.info["loop"] == 0
        for frame, read in zip(frames, ImageSequence.Iterator(image)):
            assert np.abs(np.asarray(read.convert("RGB")).astype(int) - frame).mean() < 12


def test_names_that_are_not_utf8_are_drawn_as_escapes():
    """OpenCV would end the process."""
    assert np.array_equal(add_title(grey(), ["\udcff.mp4"]), add_title(grey(), ["\\udcff.mp4"]))
