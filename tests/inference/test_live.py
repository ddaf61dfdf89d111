"""Cameras and streams."""

from __future__ import annotations

import threading
import time

import av
import numpy as np
import pytest

import slowfast
from slowfast.inference import live
from slowfast.utils.errors import VideoError
from tests.conftest import noise_clip
from tests.inference.test_predictor import trained
from tests.scripts import CONTEXT


@pytest.fixture(scope="module")
def predictor(shapes, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    return slowfast.load(trained(shapes, out, {"DATA.SAMPLING": "segment"}), "cpu")


class Camera:
    """A camera of ``count`` frames, each half black and half of its number."""

    def __init__(self, count: int, pause: float = 0.01):
        self.count, self.pause, self.taken, self.released = count, pause, 0, False

    def isOpened(self):
        return self.count >= 0

    def read(self):
        time.sleep(self.pause)
        if self.taken >= self.count:
            return False, None
        self.taken += 1
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[:, :, 0] = self.taken % 256  # blue
        return True, frame

    def release(self):
        self.released = True


def camera_thread() -> threading.Thread | None:
    return next((t for t in threading.enumerate() if t.name == "slowfast-live"), None)


def camera_of(monkeypatch, *values) -> Camera:
    camera = Camera(*values)
    monkeypatch.setattr(live.cv2, "VideoCapture", lambda word: camera)
    return camera


def test_a_camera_is_answered_until_it_ends(predictor, monkeypatch):
    camera = camera_of(monkeypatch, 100)
    answers = list(live.watch(predictor, "0", seconds=0.3, stride=0.2, top=2))
    assert camera.released and answers
    for answer in answers:
        start, end = answer.span
        assert answer.path == "0" and 0 < end - start <= 0.3 and len(answer.labels) == 2
    ends = [answer.span[1] for answer in answers]
    assert ends == sorted(ends)


def test_a_camera_is_closed_after_its_limit(predictor, monkeypatch):
    camera = camera_of(monkeypatch, 10**6)
    answers = list(live.watch(predictor, "0", seconds=0.1, stride=0.1, limit=0.35))
    assert camera.released and 1 <= len(answers) <= 3
    stopped = live.watch(predictor, "0", seconds=0.1)
    next(stopped)
    stopped.close()  # as Ctrl-C does
    assert camera_thread() is None


def test_frames_are_rgb_and_of_the_last_seconds(monkeypatch):
    camera_of(monkeypatch, 60)
    with live.LiveFrames("0", 0.2) as frames:
        assert not frames.wait_until(1e9)
        kept, start, end = frames.last()
    assert end - start <= 0.2 and len(kept) < 60
    assert kept[-1][0, 0].tolist() == [0, 0, 60]


def test_memory_is_bounded(monkeypatch):
    camera_of(monkeypatch, 60)
    monkeypatch.setattr(live, "_MOST_BYTES", 10 * 48 * 64 * 3)
    with live.LiveFrames("0", 1e9) as frames:
        frames.wait_until(1e9)
        assert len(frames.last()[0]) == 10


def test_what_sends_nothing(predictor, monkeypatch):
    camera_of(monkeypatch, -1)
    with pytest.raises(VideoError, match="0: cannot be opened as a camera or stream"):
        list(live.watch(predictor, "0"))
    camera_of(monkeypatch, 0)
    with pytest.raises(VideoError, match="sends no frames"):
        list(live.watch(predictor, "0"))


def send(address: str) -> None:
    with av.open(f"{address}?listen=1", "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"tune": "zerolatency", "preset": "ultrafast"}
        for image in noise_clip(75, 48, 64):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def test_a_real_stream(predictor, free_port):
    """Frames that another process sends over TCP, as an IP camera does."""
    address = f"tcp://127.0.0.1:{free_port}"
    sender = CONTEXT.Process(target=send, args=(address,), daemon=True)
    sender.start()
    answers = []
    for _ in range(100):  # until it listens
        try:
            answers = list(live.watch(predictor, address, seconds=0.2, stride=0.1))
            break
        except VideoError:
            time.sleep(0.2)
    sender.terminate()
    assert answers and all(len(answer.labels) == 4 for answer in answers)


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
