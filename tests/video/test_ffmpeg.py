"""Awkward files, made by the ``ffmpeg`` program: the frames that the program itself decodes, bit for
bit. Where a file needs it, the program's own rules decide: which stream, which size, which side up.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from slowfast.datasets.probe import probe_video
from slowfast.utils.errors import VideoError
from slowfast.video.backends import torchcodec
from slowfast.video.source import open_video

FFMPEG = shutil.which("ffmpeg")
pytestmark = pytest.mark.skipif(not FFMPEG, reason="needs the ffmpeg program")
BACKENDS = ["pyav"] if torchcodec.why_missing() else ["pyav", "torchcodec"]


def source(size="64x48", seconds=0.4):
    return ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25:duration={seconds}"]


YUV = ["-pix_fmt", "yuv420p"]
BT709 = ["-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709"]
OTHER = [
    "-f",
    "lavfi",
    "-i",
    "mandelbrot=size=96x80:rate=25",
    "-t",
    "0.4",
    "-map",
    "0",
    "-map",
    "1",
]

# Name of the file -> how it is made.
FILES = {
    "odd.webm": [*source("65x49"), "-c:v", "libvpx-vp9", *YUV],
    "odd_444.mp4": [*source("65x49"), "-pix_fmt", "yuv444p"],
    "not_square.mp4": [*source(), "-vf", "setsar=4/3", *YUV],
    "ten_bit.mp4": [*source(), "-c:v", "libx264", "-pix_fmt", "yuv420p10le"],
    "twelve_bit.mkv": [*source(), "-c:v", "ffv1", "-pix_fmt", "yuv422p12le"],
    "full_range.mp4": [*source(), "-vf", "scale=out_range=full", "-pix_fmt", "yuvj420p"],
    "limited_range.mp4": [*source(), "-color_range", "tv", *YUV],
    "bt601.mp4": [*source(), "-colorspace", "smpte170m", *YUV],
    "bt709.mp4": [*source(), *BT709, *YUV],
    "bt709_full.mp4": [*source(), *BT709, "-color_range", "pc", *YUV],
    "bt709_ten_bit.mp4": [*source(), *BT709, "-c:v", "libx264", "-pix_fmt", "yuv420p10le"],
    "bt2020.mkv": [*source(), "-colorspace", "bt2020nc", "-c:v", "ffv1", "-pix_fmt", "yuv420p10le"],
    "interlaced.mp4": [*source(), "-vf", "tinterlace=interleave_top", "-flags", "+ildct+ilme", *YUV],
    "interlaced.mpg": [*source(), "-c:v", "mpeg2video", "-flags", "+ildct+ilme", *YUV],
    "late.mp4": [*source(), "-output_ts_offset", "3", *YUV],
    "late.ts": [*source(), "-output_ts_offset", "3", *YUV],
    "negative.mkv": [*source(), "-output_ts_offset", "-0.2", "-avoid_negative_ts", "disabled", *YUV],
    "open_gop.mp4": [
        *source(seconds=1.2), "-g", "12", "-bf", "3", "-x264-params", "open-gop=1", *YUV,
    ],
    "grey.mp4": [*source(), "-c:v", "libx264", "-pix_fmt", "gray"],
    "grey_ten_bit.mkv": [*source(), "-c:v", "ffv1", "-pix_fmt", "gray10le"],
    "rgb.mp4": [*source(), "-c:v", "libx264rgb", "-pix_fmt", "rgb24"],
    "rgb_raw.avi": [*source(), "-c:v", "rawvideo", "-pix_fmt", "bgr24"],
    "planes.mkv": [*source(), "-c:v", "ffv1", "-pix_fmt", "gbrp"],
    "alpha.mov": [*source(), "-vf", "format=argb,colorchannelmixer=aa=0.3", "-c:v", "qtrle"],
    "alpha.webm": [*source(), "-vf", "format=yuva420p,colorchannelmixer=aa=0.5", "-c:v", "libvpx-vp9"],
    "422.mp4": [*source(), "-c:v", "libx264", "-pix_fmt", "yuv422p"],
    "411.mkv": [*source(), "-c:v", "ffv1", "-pix_fmt", "yuv411p"],
    "410.mkv": [*source(), "-c:v", "ffv1", "-pix_fmt", "yuv410p"],
    "palette.gif": source(),
    "prores.mov": [*source(), "-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"],
    "b_frames.avi": [*source(seconds=0.8), "-c:v", "libx264", "-bf", "2", *YUV],
    "stream.ts": [*source(), "-c:v", "mpeg2video"],
    "program.mpg": [*source(), "-c:v", "mpeg1video"],
    "flash.flv": [*source(), "-c:v", "flv"],
    "media.wmv": [*source(), "-c:v", "wmv2"],
    "motion.avi": [*source(), "-c:v", "mjpeg", "-pix_fmt", "yuvj422p"],
    "repeats.ogv": [*source(seconds=0.8), "-c:v", "libtheora"],
    "raw.h264": [*source(), "-c:v", "libx264", *YUV, "-f", "h264"],
    "one.mp4": [*source(), "-frames:v", "1", *YUV],
    "timecode.mov": [*source(), "-timecode", "01:00:00:00", *YUV],
    "two_default_is_second.mkv": [
        *source(), *OTHER, "-disposition:v:0", "0", "-disposition:v:1", "default", *YUV,
    ],
    "two_default_is_small.mkv": [
        *OTHER[:4], *source(), *OTHER[4:], "-disposition:v:0", "0", "-disposition:v:1", "default", *YUV,
    ],
    "two_without_default.mkv": [
        *source(), *OTHER, "-disposition:v:0", "0", "-disposition:v:1", "0", *YUV,
    ],
    "two_defaults.mkv": [
        *source(), *OTHER, "-disposition:v:0", "default", "-disposition:v:1", "default", *YUV,
    ],
}  # fmt: skip


def ffmpeg(*words) -> bytes:
    command = [FFMPEG, "-y", "-v", "error", "-nostdin", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def make(path: Path, *words) -> Path:
    try:
        ffmpeg(*words, path)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this ffmpeg cannot make it: {error.stderr.decode()[:100]}")
    return path


def program_frames(path: Path) -> list[np.ndarray]:
    """What the program writes, one image per decoded frame."""
    data = ffmpeg(
        "-i", path, "-vsync", "passthrough", "-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"
    )  # fmt: skip
    frames = []
    while data:
        head = re.match(rb"P6\n(\d+) (\d+)\n255\n", data)
        width, height = int(head[1]), int(head[2])
        pixels = np.frombuffer(data, np.uint8, width * height * 3, head.end())
        frames.append(pixels.reshape(height, width, 3))
        data = data[head.end() + pixels.size :]
    return frames


def check(path: Path, backend: str) -> None:
    """All frames, and single ones of a file opened anew, equal the program's."""
    expected = program_frames(path)
    opened = open_video(str(path), backend)
    assert opened.num_frames == len(expected) > 0
    last = len(expected) - 1
    for indices in (range(last + 1), [last // 2], [last]):
        (frames,) = open_video(str(path), backend).clips([indices])
        for index, frame in zip(indices, frames):
            assert np.array_equal(frame, expected[index]), (indices, index)


@pytest.mark.parametrize("name", FILES)
def test_the_programs_own_pixels(tmp_path, name):
    path = make(tmp_path / name, *FILES[name])
    for backend in BACKENDS:
        check(path, backend)


@pytest.fixture
def long_video(tmp_path) -> Path:
    words = [*source(seconds=1.6), "-g", "12", "-bf", "2", *YUV]
    return make(tmp_path / "long.mp4", *words)


def test_edit_lists(tmp_path, long_video):
    """A cut without coding again starts between keyframes; the file says what is shown."""
    cut = make(tmp_path / "cut.mp4", "-ss", "0.7", "-i", long_video, "-c", "copy")
    for backend in BACKENDS:
        check(cut, backend)


def test_no_keyframe_at_the_start(tmp_path, long_video):
    stream = make(tmp_path / "a.ts", "-i", long_video, "-c", "copy")
    data = stream.read_bytes()
    stream.write_bytes(data[len(data) // 4 // 188 * 188 :])
    assert len(program_frames(stream)) < 40
    for backend in BACKENDS:
        check(stream, backend)


@pytest.mark.parametrize("name", ["a.ts", "a.h264", "a.m2v"])
def test_joined_streams_with_a_change_of_size(tmp_path, name):
    """Frames have the size of the first; the program resizes the others to it."""
    codec = "mpeg2video" if name.endswith("m2v") else "libx264"
    parts = [
        make(
            tmp_path / f"{size}_{name}", *source(size), "-g", "5", "-c:v", codec, *YUV
        ).read_bytes()
        for size in ("64x48", "96x80")
    ]
    (tmp_path / name).write_bytes(b"".join(parts))
    assert {frame.shape for frame in program_frames(tmp_path / name)} == {(48, 64, 3)}
    for backend in BACKENDS:
        check(tmp_path / name, backend)


@pytest.mark.parametrize("name", ["a.ts", "a.mkv"])
def test_truncated(tmp_path, long_video, name):
    path = make(tmp_path / name, "-i", long_video, "-c", "copy")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    for backend in BACKENDS:
        check(path, backend)


def test_cover_pictures_are_no_videos(tmp_path):
    cover = make(tmp_path / "cover.jpg", *source("80x80"), "-frames:v", "1", "-update", "1")
    sound = [
        "-f",
        "lavfi",
        "-i",
        "sine=d=0.3",
        "-i",
        cover,
        "-map",
        "0",
        "-map",
        "1",
        "-c:v",
        "mjpeg",
    ]
    for name, codec in (("a.mp3", []), ("a.m4a", ["-c:a", "aac"]), ("a.flac", [])):
        path = make(tmp_path / name, *sound, *codec, "-disposition:v", "attached_pic")
        assert "no video stream, only a cover picture" in probe_video(str(path))["cause"]
        for backend in BACKENDS:
            with pytest.raises(VideoError, match="no video stream, only a cover picture"):
                open_video(str(path), backend)
    both = ["-c:v:0", "mjpeg", "-c:v:1", "libx264", "-disposition:v:0", "attached_pic"]
    path = make(
        tmp_path / "a.mp4", "-i", cover, *source(), "-map", "0", "-map", "1", *both, "-pix_fmt:v:1",
        "yuv420p",
    )  # fmt: skip
    assert probe_video(str(path))["width"] == 64
    for backend in BACKENDS:
        check(path, backend)
