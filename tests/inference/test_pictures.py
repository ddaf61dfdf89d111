"""Annotated videos and timelines."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from slowfast.inference.annotate import Style, _latin, _nearest, draw, write_annotated
from slowfast.inference.prediction import Prediction
from slowfast.inference.timeline import shown_classes, write_timeline
from slowfast.utils.errors import UserError, VideoError
from slowfast.video.backends.memory import MemorySource
from slowfast.video.source import open_video
from tests.conftest import noise_clip

CLASSES = [f"class {number}" for number in range(20)]


def answer(best: int, start: float, end: float, share: float = 0.8) -> Prediction:
    scores = torch.full((len(CLASSES),), (1 - share) / (len(CLASSES) - 1))
    scores[best] = share
    return Prediction("clip.mp4", [CLASSES[best]], [share], scores, span=(start, end))


def test_every_frame_has_the_answer_of_the_window_around_it():
    centres = [1.0, 2.0, 3.0]
    moments = [0.0, 1.4, 1.6, 2.9, 9.0]
    assert [_nearest(centres, moment) for moment in moments] == [0, 0, 1, 2, 2]


def test_the_bar_is_as_long_as_the_class_is_probable():
    frame = draw(np.zeros((480, 640, 3), np.uint8), [("run", 0.5), ("walk", 0.25)])
    first, second = frame[8], frame[36 + 8]
    ends = [
        int(np.flatnonzero((row[:, 1] > 60) & (row[:, 1] < 180)).max()) for row in (first, second)
    ]
    width = int(640 * 0.42)
    assert ends[0] == pytest.approx(width * 0.5, abs=6)
    assert ends[1] == pytest.approx(width * 0.25, abs=6)
    assert not frame[100:].any() and not frame[:, width:].any()  # the rest is as it was


def test_names_that_the_font_lacks():
    assert _latin("Schöne Zeit") == "Schone Zeit"
    assert _latin("漢字 run") == "?? run"


@pytest.mark.parametrize("height, width", [(64, 96), (241, 321), (480, 640)])
def test_a_written_video(height, width, tmp_path):
    frames = noise_clip(20, height, width)
    path = tmp_path / "out.mp4"
    answers = [answer(0, 0.0, 1.0), answer(1, 1.0, 2.0)]
    write_annotated(MemorySource(frames, fps=10), answers, path)
    written = open_video(str(path))
    (read,) = written.frames([range(written.num_frames)])
    assert len(read) == 20 and written.fps == 10
    assert min(read.shape[1:3]) >= 240 and not any(size % 2 for size in read.shape[1:3])
    assert not np.array_equal(read[0], read[19])
    style = Style(fps=5.0, size=(128, 96))
    write_annotated(MemorySource(frames, fps=10), answers, path, style)
    written = open_video(str(path))
    assert written.fps == 5 and written.frames([[0]])[0].shape[1:] == (96, 128, 3)


class Cut(MemorySource):
    def in_order(self):
        yield from self._frames[:7]
        raise VideoError(self.path, "cut off")


def test_a_video_that_is_cut_off_is_drawn_as_far_as_it_goes(tmp_path, caplog):
    write_annotated(Cut(noise_clip(20, 240, 320), fps=10), [answer(0, 0, 2)], tmp_path / "o.mp4")
    assert open_video(str(tmp_path / "o.mp4")).num_frames == 7
    assert "the first 7 frames are drawn: cut off" in caplog.text


def test_which_classes_a_timeline_shows():
    assert shown_classes([answer(3, 0, 1), answer(1, 1, 2), answer(3, 2, 3)])[:2] == [3, 1]
    assert len(shown_classes([answer(3, 0, 1)])) == 5
    many = [answer(number, number, number + 1) for number in range(20)]
    assert len(shown_classes([*many, answer(19, 20, 21)])) == 12
    assert 19 in shown_classes([*many, answer(19, 20, 21)])


def test_a_timeline(tmp_path):
    answers = [answer(number // 10 % 3, number, number + 2) for number in range(60)]
    answers[5] = Prediction("clip.mp4", error="damaged", span=(5.0, 7.0))
    write_timeline(answers, CLASSES, tmp_path / "a.png")
    picture = cv2.imread(str(tmp_path / "a.png"))
    assert picture.shape[1] == 1200
    other = [answer(1, number, number + 2) for number in range(60)]
    write_timeline(other, CLASSES, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    with pytest.raises(UserError, match="no window could be read"):
        write_timeline([answers[5]], CLASSES, tmp_path / "c.png")
