"""Awkward files, made here: the same frames from every backend, or one clear error."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from slowfast.utils.errors import VideoError
from slowfast.video.backends import torchcodec
from slowfast.video.source import open_video
from tests.conftest import noise_clip
from tests.video.test_backends import all_frames, write_with_pts

BACKENDS = ["pyav"] if torchcodec.why_missing() else ["pyav", "torchcodec"]
CLIP, ODD = noise_clip(20, 48, 64), noise_clip(20, 49, 65)


def write(
    path: Path,
    clip=CLIP,
    codec="libx264",
    pixels="yuv420p",
    container=None,
    options=None,
    audio_first=False,
    **flags,
):
    with av.open(str(path), "w", format=container, options=options or {}) as output:
        sound = output.add_stream("aac", rate=44100) if audio_first else None
        stream = output.add_stream(codec, rate=25)
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt, stream.options = pixels, flags
        for number in range(10 if sound else 0):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.rate, frame.pts = 44100, number * 1024
            output.mux(sound.encode(frame))
        for image in clip:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image))))
        output.mux(stream.encode())
        if sound:
            output.mux(sound.encode())
    return path


FILES = {
    "odd_444.mp4": {"clip": ODD, "pixels": "yuv444p"},
    "odd_420.webm": {"clip": ODD, "codec": "libvpx-vp9"},
    "odd_420.avi": {"clip": ODD, "codec": "mjpeg", "pixels": "yuvj420p"},
    "grey.mp4": {"pixels": "gray"},
    "grey.mkv": {"codec": "ffv1", "pixels": "gray"},
    "444.mp4": {"pixels": "yuv444p"},
    "full_range.mp4": {"pixels": "yuvj420p"},
    "audio_first.mp4": {"audio_first": True},
    "audio_first.mkv": {"audio_first": True},
    "one_frame.mp4": {"clip": CLIP[:1]},
    "one_frame.webm": {"clip": CLIP[:1], "codec": "libvpx-vp9"},
    "no_duration.webm": {"codec": "libvpx-vp9", "options": {"live": "1"}},
    "no_duration.mkv": {"options": {"live": "1"}},
    "fragments.mp4": {"options": {"movflags": "frag_keyframe+empty_moov"}},
    "raw.h264": {"container": "h264"},
    "stream.ts": {"container": "mpegts"},
    "vp8.webm": {"codec": "libvpx"},
    "packed.avi": {"codec": "mpeg4", "bf": "2"},
    "mpeg2.mpg": {"codec": "mpeg2video", "container": "mpeg"},
}


def check(path: Path, backend: str, expected: list[np.ndarray]) -> None:
    opened = open_video(str(path), backend)
    assert opened.num_frames == len(expected) and opened.fps > 0
    draws = np.random.default_rng(0)
    last = len(expected) - 1
    lists = [[last], [0], draws.integers(0, len(expected), 5).tolist(), range(len(expected))]
    for indices in lists:
        (frames,) = open_video(str(path), backend).frames([indices])
        for index, frame in zip(indices, frames):
            assert np.array_equal(frame, expected[index]), index


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FILES)
def test_every_frame(tmp_path, name, backend):
    path = write(tmp_path / name, **FILES[name])
    expected = all_frames(path)
    assert len(expected) == len(FILES[name].get("clip", CLIP))
    check(path, backend, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_variable_frame_rate(tmp_path, backend):
    steps = np.random.default_rng(0).integers(10, 120, 40).cumsum()
    write_with_pts(tmp_path / "vfr.mp4", [int(t) for t in steps])
    check(tmp_path / "vfr.mp4", backend, all_frames(tmp_path / "vfr.mp4"))


# The display matrix of an MP4 track: what a telephone held upright writes, and what a camera on its
# front side writes; and the frame as it is displayed.
TURNS = {
    "90": ((0, 1, 0, -1, 0, 0, 48, 0), lambda frame: np.rot90(frame, -1)),
    "180": ((-1, 0, 0, 0, -1, 0, 64, 48), lambda frame: np.rot90(frame, 2)),
    "270": ((0, -1, 0, 1, 0, 0, 0, 64), lambda frame: np.rot90(frame, 1)),
    "mirrored": ((-1, 0, 0, 0, 1, 0, 64, 0), lambda frame: frame[:, ::-1]),
    "90 and mirrored": ((0, 1, 0, 1, 0, 0, 0, 0), lambda frame: frame.swapaxes(0, 1)),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("turn", TURNS)
def test_rotation_is_applied(tmp_path, turn, backend):
    numbers, display = TURNS[turn]
    data = write(tmp_path / "plain.mp4").read_bytes()
    matrix = struct.pack(">9i", *(v << 16 for v in numbers), 0x40000000)
    place = data.index(b"tkhd") + 44
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(data[:place] + matrix + data[place + 36 :])
    check(turned, backend, [display(f) for f in all_frames(tmp_path / "plain.mp4")])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.webm", "a.ts"])
def test_cut_off_at_the_end(tmp_path, name, backend):
    """What is left is read; nothing beyond it is promised."""
    how = {"a.avi": {"codec": "mpeg4"}, "a.webm": {"codec": "libvpx"}}.get(name, {})
    data = write(tmp_path / name, g="5", **how).read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * 0.7)])
    whole = open_video(str(tmp_path / name)).num_frames
    assert 0 < whole < 20
    (first,) = open_video(str(tmp_path / name), backend).frames([range(whole - 1)])
    (reference,) = open_video(str(tmp_path / name)).frames([range(whole - 1)])
    assert np.array_equal(first, reference)


@pytest.mark.parametrize("backend", BACKENDS)
def test_cut_off_with_a_complete_header(tmp_path, backend):
    """An MP4 whose index stands at the front promises frames that are not there."""
    path = write(tmp_path / "a.mp4", options={"movflags": "faststart"}, g="5")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    opened = open_video(str(path), backend)
    opened.frames([[0, 3]])
    with pytest.raises(VideoError, match=r"a\.mp4: .*(cut off|can be decoded)"):
        open_video(str(path), backend).frames([[opened.num_frames - 1]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_videos(tmp_path, backend):
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as output:
        stream = output.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 44100
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    (tmp_path / "head.mp4").write_bytes(write(tmp_path / "w.mp4").read_bytes()[:200])
    (tmp_path / "folder.mp4").mkdir()
    for name, cause in [
        ("sound.mp4", "video stream|readable"),
        ("empty.mp4", "the file is empty"),
        ("text.mp4", "readable video"),
        ("head.mp4", "readable video|no video"),
        ("absent.mp4", "No such file"),
        ("folder.mp4", "is a folder"),
    ]:
        with pytest.raises(VideoError, match=cause) as caught:
            open_video(str(tmp_path / name), backend)
        assert len(str(caught.value)) < 300 and str(caught.value).count("\n") == 0


def test_decoders_are_quiet(tmp_path, capfd):
    """FFmpeg's own messages do not reach the terminal; the exception says what is wrong."""
    data = write(tmp_path / "a.ts", g="5").read_bytes()
    (tmp_path / "a.ts").write_bytes(data[:3000] + bytes(4000) + data[7000:])
    opened = open_video(str(tmp_path / "a.ts"))
    try:
        opened.frames([range(opened.num_frames)])
    except VideoError as error:
        assert "a.ts" in str(error)
    assert capfd.readouterr().err == ""
