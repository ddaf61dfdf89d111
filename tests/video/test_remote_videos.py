"""Videos in a storage: the frames of the same files here, and no more bytes than they need."""

from __future__ import annotations

import av
import numpy as np
import pytest

from slowfast.utils.errors import VideoError
from slowfast.utils.remote import RetryPolicy
from slowfast.video.backends.pyav import PyAVSource
from slowfast.video.source import open_source, open_video
from slowfast.video.writer import write_mp4
from tests.conftest import SHARED_CLIPS, noise_clip
from tests.storage import reset, too_short, unavailable
from tests.video.test_backends import write_with_pts

OPTIONS = [
    ("h264.mp4", "libx264", {}),
    ("faststart.mp4", "libx264", {"movflags": "faststart"}),
    ("fragments.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov", "g": "5"}),
    ("open_gop.mp4", "libx264", {"x264-params": "open-gop=1:keyint=8:bframes=3"}),
    ("hevc.mp4", "libx265", {"x265-params": "log-level=none:keyint=8"}),
    ("mpeg4.mp4", "mpeg4", {}),
    ("vp9.mp4", "libvpx-vp9", {}),
    ("vp9.webm", "libvpx-vp9", {}),
    ("h264.mkv", "libx264", {}),
    ("mpeg4.avi", "mpeg4", {}),
    ("h264.ts", "libx264", {}),
    ("mjpeg.mov", "mjpeg", {}),
]


def check_same(storage, path):
    """All frames, and some of them in any order, equal those of the file."""
    here, there = open_video(str(path)), open_video(storage.put(path.name, path))
    assert (there.num_frames, there.fps, there.pixels) == (here.num_frames, here.fps, here.pixels)
    rng = np.random.default_rng(0)
    for count in (3, here.num_frames):
        lists = [sorted(rng.integers(0, here.num_frames, count).tolist()) for _ in range(2)]
        for one, other in zip(here.frames(lists), there.frames(lists)):
            assert np.array_equal(one, other)
    assert all(np.array_equal(a, b) for a, b in zip(here.in_order(), there.in_order()))


@pytest.mark.parametrize("name, codec, options", OPTIONS)
def test_every_container(storage, tmp_path, name, codec, options):
    movflags = {k: v for k, v in options.items() if k == "movflags"}
    coding = {k: v for k, v in options.items() if k != "movflags"}
    path = tmp_path / name
    clip = noise_clip(40, 48, 64)
    with av.open(str(path), "w", options=movflags) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = coding
        for image in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    check_same(storage, path)


def test_variable_rate(storage, tmp_path):
    steps = np.random.default_rng(0).integers(10, 120, 40).cumsum()
    write_with_pts(tmp_path / "vfr.mp4", [int(t) for t in steps])
    check_same(storage, tmp_path / "vfr.mp4")


@pytest.mark.skipif(not SHARED_CLIPS.is_dir(), reason="the shared clips are not here")
def test_real_videos(storage):
    for path in sorted(SHARED_CLIPS.glob("*.mp4"))[:4]:
        check_same(storage, path)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """8 MB, a keyframe every 25 frames, the index at the end."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (200, 128, 160, 3)).astype(np.uint8)
    write_mp4(path, frames, fps=25, gop=25, crf=8, preset="ultrafast")
    return path


def test_the_end_is_not_fetched(storage, long_video):
    size = long_video.stat().st_size
    assert size > 4 << 20
    address = storage.put("long.mp4", long_video)
    indices = [60, 62, 64, 66]
    expected = PyAVSource(str(long_video)).clips([indices])[0]
    storage.requests.clear()
    opened = open_video(address)
    assert opened.num_frames == 200
    assert storage.bytes_of("long.mp4") < 0.2 * size  # head and index
    (frames,) = opened.clips([indices])
    assert all(np.array_equal(a, b) for a, b in zip(expected, frames))
    assert storage.bytes_of("long.mp4") < 0.6 * size
    ends = [int(span.split("-")[1]) for _, _, span in storage.requests if span]
    starts = [
        int(span.removeprefix("bytes=").split("-")[0]) for _, _, span in storage.requests if span
    ]
    assert not any(0.7 * size < first < 0.9 * size for first in starts), (starts, ends)


def test_faults_while_decoding(storage, long_video):
    address = storage.put("long.mp4", long_video)
    opened = open_video(address)
    storage.faults[:] = [None, unavailable, reset, too_short]
    (frames,) = opened.clips([[100, 140]])
    expected = PyAVSource(str(long_video)).clips([[100, 140]])[0]
    assert all(np.array_equal(a, b) for a, b in zip(expected, frames))


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
def test_a_storage_that_breaks_is_the_cause(storage, long_video, after):
    """Wherever it breaks, it is not taken for the end of the video or for damage."""
    address = storage.put("long.mp4", long_video)
    storage.faults[:] = [None] * after + [unavailable] * 20
    with pytest.raises(VideoError, match=r"cannot be fetched: .*\(2 tries in [0-9]+ seconds\)"):
        open_video(address, policy=RetryPolicy(tries=2)).clips([list(range(200))])


def test_what_is_no_video(storage, tmp_path):
    cases = {
        "empty.mp4": (b"", "empty"),
        "text.mp4": (b"no video" * 99, "not a readable video"),
        "a.jpg": (b"x", "read from disks only"),
    }
    for name, (content, cause) in cases.items():
        address = storage.put(name, content)
        with pytest.raises(VideoError, match=cause):
            open_source(address, "{:05d}.jpg")
    with pytest.raises(VideoError, match="no such file"):
        open_source("s3://videos/absent.mp4", "{:05d}.jpg")


@pytest.mark.parametrize("target", ["file://{0}", "{0}", "http://127.0.0.1:9/x.mp4", "concat:{0}"])
def test_a_playlist_leads_nowhere(storage, video, target, monkeypatch):
    """A video from elsewhere cannot make the decoder read files of this machine or of others."""
    monkeypatch.chdir(video.parent)
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{}\n#EXT-X-ENDLIST\n"
    for name in ("list.mp4", "list.m3u8"):
        address = storage.put(name, text.format(target.format(video)).encode())
        with pytest.raises(VideoError):
            open_video(address)
    for name in (target.format(video), video.name):
        script = f"ffconcat version 1.0\nfile '{name}'\n"
        with pytest.raises(VideoError):
            open_video(storage.put("script.mp4", script.encode()))
