"""Sliding windows: which frames they have, and that each is answered as a video of its own."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

import slowfast
from slowfast.datasets.items import Item
from slowfast.inference import reading
from slowfast.inference import windows as windows_module
from slowfast.inference.windows import read_windows, slide
from slowfast.utils.errors import UserError, VideoError
from slowfast.video.backends.memory import MemorySource
from slowfast.video.source import open_video
from slowfast.video.writer import write_mp4
from tests.conftest import noise_clip
from tests.inference.test_predictor import trained


@pytest.mark.parametrize(
    ("num_frames", "seconds", "stride", "expected"),
    [
        (40, 1, 1, [(0, 10), (10, 20), (20, 30), (30, 40)]),
        (45, 1, 1, [(0, 10), (10, 20), (20, 30), (30, 40), (40, 45)]),
        (30, 2, 0.5, [(0, 20), (5, 25), (10, 30)]),
        (7, 2, 1, [(0, 7)]),
        (30, 0.5, 1, [(0, 5), (10, 15), (20, 25)]),
        (3, 0.01, 0.01, [(0, 1), (1, 2), (2, 3)]),
        (10, 0.25, 0.25, [(0, 2), (2, 4), (5, 7), (8, 10)]),
    ],
)
def test_windows_of_ten_frames_a_second(num_frames, seconds, stride, expected):
    windows = slide(num_frames, 10.0, seconds, stride)
    assert [(window.start, window.stop) for window in windows] == expected


@pytest.mark.parametrize(("seconds", "stride"), [(0, 1), (-1, 1), (1, 0), (1, float("nan"))])
def test_windows_are_positive(seconds, stride):
    with pytest.raises(UserError, match="give a positive number"):
        slide(10, 10.0, seconds, stride)


@pytest.fixture(scope="module")
def predictor(shapes, tmp_path_factory):
    values = {"DATA.SAMPLING": "clip", "DATA.SAMPLING_RATE": 2}
    return slowfast.load(trained(shapes, tmp_path_factory.mktemp("run") / "out", values), "cpu")


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """Ten seconds at 25 frames a second, with a keyframe every 4 seconds."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    write_mp4(path, noise_clip(250, 48, 64), fps=25, gop=100, preset="medium")
    return path


def test_a_window_is_answered_as_a_video(predictor, long_video):
    source = open_video(str(long_video))
    (frames,) = source.frames([range(source.num_frames)])
    answers = list(predictor.windows(long_video, seconds=2, stride=1))
    assert [answer.span for answer in answers] == [(float(s), float(s + 2)) for s in range(9)]
    for second, answer in enumerate(answers):
        alone = predictor.predict(frames[25 * second : 25 * second + 50], fps=25)
        torch.testing.assert_close(answer.scores, alone.scores, rtol=1e-5, atol=1e-7)
        assert answer.labels == alone.labels and answer.path == str(long_video)
    whole = list(predictor.windows(long_video, seconds=60))
    assert len(whole) == 1 and whole[0].span == (0.0, 10.0)
    torch.testing.assert_close(whole[0].scores, predictor.predict(long_video).scores)


class Breaking(MemorySource):
    """Frames of which some cannot be decoded."""

    broken = range(55, 60)

    def decode(self, indices, work=lambda frame: frame):
        if set(indices) & set(self.broken):
            raise VideoError(self.path, "decoding failed")
        return super().decode(indices, work)


def test_a_damaged_part_does_not_lose_the_rest(predictor, monkeypatch):
    """Four windows are decoded in one pass, which fails; then each by itself."""
    source = Breaking(noise_clip(100, 48, 64), fps=25)
    reader = predictor.reader
    (job,) = read_windows(source, reader, slide(100, 25, 1, 1))
    samples = job()
    assert [isinstance(sample, VideoError) for sample in samples] == [False, False, True, False]
    assert torch.equal(
        samples[3]["video"],
        reader.read_source(MemorySource(noise_clip(100, 48, 64)[75:], fps=25), Item("", 0))[
            "video"
        ],
    )
    monkeypatch.setattr(reading, "open_any", lambda *_: contextlib.nullcontext(source))
    answers = list(predictor.windows("x", 1.0))
    assert [answer.error for answer in answers] == ["", "", "decoding failed", ""]


def test_windows_share_passes_of_bounded_memory(predictor, monkeypatch):
    source = MemorySource(np.zeros((200, 48, 64, 3), np.uint8), fps=25)
    windows = slide(200, 25, 1, 0.5)
    (job,) = read_windows(source, predictor.reader, windows)
    assert len(job()) == len(windows) == 15
    monkeypatch.setattr(windows_module, "_MOST_BYTES", 20 * source.pixels * 3)
    jobs = list(read_windows(source, predictor.reader, windows))
    sizes = [len(job()) for job in jobs]
    assert sum(sizes) == 15 and len(sizes) > 1 and max(sizes) < 5
