"""Every backend gives the frames that a plain decode of the whole file gives."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import torch

from slowfast.config.load import load_config
from slowfast.utils.errors import UserError, VideoError
from slowfast.video import source
from slowfast.video.backends import torchcodec
from slowfast.video.backends.frames import FrameFolder
from slowfast.video.backends.pyav import PyAVSource
from slowfast.video.source import open_video, resolve_backend
from slowfast.video.writer import write_mp4
from tests.conftest import SHARED_CLIPS, noise_clip, words


def all_frames(path) -> list[np.ndarray]:
    with av.open(str(path), metadata_errors="ignore") as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


def random_lists(count: int, frames: int, rng) -> list[list[int]]:
    return [sorted(rng.integers(0, frames, 8).tolist()) for _ in range(count)]


def check_same(path, backend="pyav", rounds=6):
    reference = all_frames(path)
    rng = np.random.default_rng(0)
    for number in range(rounds):
        opened = open_video(str(path), backend)
        assert opened.num_frames == len(reference)
        lists = random_lists(1 + number % 3, len(reference), rng)
        for indices, frames in zip(lists, opened.frames(lists)):
            for index, frame in zip(indices, frames):
                assert np.array_equal(frame, reference[index]), (number, index)


def write_with_pts(path, pts, codec="libx264", container_format=None, **options):
    """A video whose frames have the given time stamps (in 1/1000 s)."""
    from fractions import Fraction

    clip = noise_clip(len(pts), 48, 64)
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.options = options
        for image, time in zip(clip, pts):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_h264_with_b_frames(video):
    assert PyAVSource(str(video))._index.regular
    check_same(video)


def test_variable_frame_rate(tmp_path):
    steps = np.random.default_rng(0).integers(10, 120, 40).cumsum()
    path = tmp_path / "vfr.mp4"
    write_with_pts(path, [int(t) for t in steps])
    check_same(path)


@pytest.mark.parametrize(
    "name, codec",
    [("a.avi", "mpeg4"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.mov", "mjpeg")],
)
def test_other_containers(tmp_path, name, codec):
    path = tmp_path / name
    clip = noise_clip(24, 48, 64)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for image in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    check_same(path)


def test_only_needed_frames_are_converted(video, monkeypatch):
    """Neither frames between the wanted ones nor whole files are turned into RGB."""
    opened = PyAVSource(str(video))
    converted = []
    original = PyAVSource._convert
    monkeypatch.setattr(
        PyAVSource, "_convert", lambda self, f: converted.append(f.pts) or original(self, f)
    )
    opened.frames([[40, 44], [44, 48]])
    assert len(converted) == 3


def test_a_seek_that_fails_falls_back(video, monkeypatch):
    reference = all_frames(video)
    opened = PyAVSource(str(video))
    monkeypatch.setattr(PyAVSource, "_frames_at", lambda self, missing: iter(()))
    (frames,) = opened.frames([[3, 30]])
    assert np.array_equal(frames[1], reference[30])


def test_seeking_is_enough(video, monkeypatch):
    """Files with time stamps and keyframes are not decoded from the start."""
    reference = all_frames(video)

    def refused(*_):
        raise AssertionError("decoded from the start")

    monkeypatch.setattr(PyAVSource, "_decode_from_start", refused)
    for indices in ([49], [0, 20, 48], [14, 15, 16], list(range(50))):
        (frames,) = PyAVSource(str(video)).frames([indices])
        assert all(np.array_equal(f, reference[i]) for f, i in zip(frames, indices))


def test_a_seek_that_goes_too_far_falls_back(video, monkeypatch):
    """Some demuxers seek to a keyframe behind the one that was asked for."""
    reference = all_frames(video)
    opened = PyAVSource(str(video))
    last = opened._index.keyframes[-1][1]
    monkeypatch.setattr(opened, "_groups", lambda indices: [(last, indices)])
    decoded = []
    original = PyAVSource._convert
    monkeypatch.setattr(
        PyAVSource, "_convert", lambda self, f: decoded.append(f.pts) or original(self, f)
    )
    (frames,) = opened.frames([[3, 49]])
    assert np.array_equal(frames[0], reference[3]) and np.array_equal(frames[1], reference[49])
    assert len(decoded) == 2  # nothing was decoded behind the frame that is missing


def test_frame_rate(video, tmp_path):
    assert PyAVSource(str(video)).fps == 25.0
    write_with_pts(tmp_path / "uneven.mp4", [0, 100, 200, 300])  # the last one lasts 40 ms
    assert PyAVSource(str(tmp_path / "uneven.mp4")).fps == pytest.approx(4 / 0.34)  # the average


def test_broken_files(tmp_path, video):
    whole = video.read_bytes()
    cases = {
        "empty.mp4": b"",
        "text.mp4": b"this is not a video " * 50,
        "cut.mp4": whole[: len(whole) // 2],
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoError, match=name):
            opened = open_video(str(tmp_path / name))
            opened.frames([range(opened.num_frames)])
    with pytest.raises(VideoError, match="No such file"):
        open_video(str(tmp_path / "absent.mp4"))


def test_frame_outside_the_video(video):
    with pytest.raises(VideoError, match="it has 50"):
        open_video(str(video)).frames([[50]])


def test_real_clips():
    if not SHARED_CLIPS.is_dir():
        pytest.skip(f"needs the real clips in {SHARED_CLIPS}")
    files = sorted(SHARED_CLIPS.glob("*.*")) + sorted((SHARED_CLIPS / "single").glob("*/*.avi"))
    files = [f for f in files if f.suffix in (".mp4", ".avi") and "1080p" not in f.name]
    assert len(files) >= 5
    for path in files:
        check_same(path, rounds=2)


def test_torchcodec_gives_the_same(video):
    reason = torchcodec.why_missing()
    if reason:
        pytest.skip(f"torchcodec cannot be used here: {reason}")
    check_same(video, "torchcodec")
    for path in SHARED_CLIPS.glob("*_320x*") if SHARED_CLIPS.is_dir() else ():
        check_same(path, "torchcodec", rounds=1)


def test_missing_torchcodec_falls_back_with_one_line(monkeypatch, caplog):
    resolve_backend.cache_clear()
    monkeypatch.setattr(torchcodec, "why_missing", lambda: "no FFmpeg found")
    assert resolve_backend("torchcodec") == "pyav"
    assert resolve_backend("torchcodec") == "pyav"
    resolve_backend.cache_clear()
    assert len(caplog.messages) == 1 and "no FFmpeg found" in caplog.text


def test_decoding_on_the_gpu_is_not_replaced(monkeypatch, tiny_words):
    """It was asked for: what is missing is an error, not a slower decoder."""
    resolve_backend.cache_clear()
    for reason, gpus, text in (("no FFmpeg", 1, "no FFmpeg"), ("", 0, "no GPU is visible")):
        monkeypatch.setattr(torchcodec, "why_missing", lambda reason=reason: reason)
        monkeypatch.setattr(source, "gpu_count", lambda gpus=gpus: gpus)
        with pytest.raises(UserError, match=f"DATA.DECODING_DEVICE: .*{text}"):
            resolve_backend("torchcodec", "cuda")
    monkeypatch.setattr(source, "gpu_count", lambda: 1)
    assert resolve_backend("torchcodec", "cuda") == torchcodec.ON_GPU
    resolve_backend.cache_clear()
    with pytest.raises(UserError, match="DATA.DECODING_DEVICE: cuda needs"):
        load_config(overrides=words(tiny_words | {"DATA.DECODING_DEVICE": "cuda"}))


def test_torchcodec_gets_the_device(video, monkeypatch):
    """Without torchcodec and a GPU: a decoder that notes where it is asked to decode."""
    devices = []

    class Decoder:
        metadata = SimpleNamespace(num_frames=3, average_fps=25.0, rotation=0, codec="h264")

        def __init__(self, path, device, **options):
            devices.append(device)

        def get_frames_at(self, indices):
            return SimpleNamespace(data=torch.zeros(len(indices), 8, 8, 3, dtype=torch.uint8))

    module = SimpleNamespace(VideoDecoder=Decoder)
    monkeypatch.setitem(sys.modules, "torchcodec", SimpleNamespace(decoders=module))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", module)
    opened = open_video(video, torchcodec.ON_GPU)
    assert isinstance(opened, torchcodec.TorchcodecSource) and devices == ["cuda"]
    assert opened.frames([[0, 2]])[0].shape == (2, 8, 8, 3)
    Decoder.metadata.rotation = 90
    assert not isinstance(open_video(video, torchcodec.ON_GPU), torchcodec.TorchcodecSource)


@pytest.mark.parametrize(
    "template, written", [("{:05d}.jpg", "{:05d}.jpg"), ("{:06d}.jpg", "{video}_{:06d}.jpg")]
)
def test_frame_folder(tmp_path, template, written):
    folder = tmp_path / "78687"
    folder.mkdir()
    clip = noise_clip(5, 96, 128)
    for n, image in enumerate(clip, 1):
        cv2.imwrite(str(folder / written.format(n, video="78687")), image[..., ::-1])
    opened = FrameFolder(str(folder), template)
    assert opened.num_frames == 5
    (frames,) = opened.frames([[0, 4, 4]])
    assert frames.shape == (3, 96, 128, 3)
    assert np.abs(frames[1].astype(int) - clip[4]).mean() < 6  # JPEG, right order of channels


def test_frame_folder_with_a_missing_image(tmp_path):
    folder = tmp_path / "v"
    folder.mkdir()
    write = lambda n: cv2.imwrite(str(folder / f"{n:05d}.jpg"), np.zeros((8, 8, 3), np.uint8))  # noqa: E731
    write(1), write(3)
    opened = FrameFolder(str(folder), "{:05d}.jpg", num_frames=3)
    with pytest.raises(VideoError, match="00002.jpg is missing"):
        opened.frames([[0, 1]])


def test_writer_is_deterministic(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_mp4(tmp_path / name, noise_clip(6, 32, 48))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
