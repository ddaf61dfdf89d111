"""Damaged videos: frames of one size, or one :class:`VideoError`."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slowfast.datasets.probe import probe_video
from slowfast.utils.errors import VideoError
from slowfast.video.backends import torchcodec
from slowfast.video.backends.frames import FrameFolder
from slowfast.video.source import open_video
from tests.conftest import noise_clip
from tests.fuzz.conftest import bounded, found_cases
from tests.fuzz.damage import damaged, damages

BACKENDS = ["pyav"] if torchcodec.why_missing() else ["pyav", "torchcodec"]
LIMIT = 1 << 22  # pixels: damage may claim any size
MADE = {
    "a.mp4": ("libx264", {"bf": "2", "g": "6"}),
    "a.mkv": ("libx264", {"g": "6"}),
    "a.avi": ("mpeg4", {}),
    "a.ts": ("libx264", {"bf": "2", "g": "6"}),
    "a.webm": ("libvpx-vp9", {}),
    "a.mpg": ("mpeg2video", {}),
    "b.avi": ("mjpeg", {}),
}


def make(path: Path) -> Path:
    codec, options = MADE[path.name]
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = 48, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for image in noise_clip(14, 48, 64):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        output.mux(stream.encode())
    return path


def read(path: Path, backend: str) -> None:
    """First, middle and last frame; VideoError as for any unreadable video."""
    try:
        opened = open_video(str(path), backend, max_pixels=LIMIT)
        last = opened.num_frames - 1
        assert last >= 0 and opened.fps > 0
        (clip,) = opened.clips([[0, last // 2, last]])
    except VideoError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
        return
    assert {frame.shape for frame in clip} == {clip[0].shape}
    assert clip[0].dtype == np.uint8 and clip[0].shape[2] == 3
    assert clip[0].shape[0] * clip[0].shape[1] <= LIMIT


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("videos")
    return {name: make(folder / name).read_bytes() for name in MADE}


@pytest.mark.parametrize("name", MADE)
def test_damaged_videos(tmp_path, originals, name):
    @bounded(25)
    @given(damages(), st.sampled_from(BACKENDS))
    def check(listed, backend):
        path = tmp_path / name
        path.write_bytes(damaged(originals[name], listed))
        read(path, backend)

    check()


@pytest.mark.parametrize("name", ["00001.jpg", "00001.png"])
def test_damaged_images(tmp_path, name):
    cv2.imwrite(str(tmp_path / name), noise_clip(1, 48, 64)[0])
    original = (tmp_path / name).read_bytes()
    template = name.replace("00001", "{:05d}")

    @bounded(25)
    @given(damages())
    def check(listed):
        (tmp_path / name).write_bytes(damaged(original, listed))
        try:
            ((frame,),) = FrameFolder(str(tmp_path), template, max_pixels=LIMIT).clips([[0]])
            assert frame.ndim == 3 and frame.dtype == np.uint8
        except VideoError as error:
            assert str(tmp_path) in str(error)

    check()


@pytest.mark.parametrize("path", found_cases("videos"), ids=lambda path: path.name)
def test_found_cases(path):
    for backend in BACKENDS:
        read(path, backend)
    assert set(probe_video(str(path))) >= {"cause", "frames", "fps", "width", "height"}
