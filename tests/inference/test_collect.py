"""Words of a command line become videos."""

from __future__ import annotations

import io

import pytest

from slowfast.inference.collect import collect, is_live
from slowfast.utils.errors import UserError


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.mp4", "a.AVI", "notes.txt", "deep/er/c.webm", "pictures/cover.jpg"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"x")
    (tmp_path / "set/pictures/d.mp4").write_bytes(b"x")
    (tmp_path / "set/frames").mkdir()
    for number in (1, 2):
        (tmp_path / f"set/frames/{number:05d}.jpg").write_bytes(b"x")
    return tmp_path


def test_a_folder_with_all_below_it(place):
    found = collect(["set"])
    assert found.videos == [
        "set/a.AVI",
        "set/b.mp4",
        "set/deep/er/c.webm",
        "set/frames",
        "set/pictures/d.mp4",
    ]
    assert found.ignored == ["set/notes.txt", "set/pictures/cover.jpg"]
    assert collect(["set/frames"]).videos == ["set/frames"]


def test_words_keep_their_order(place):
    words = ["set/b.mp4", "https://host/x.mp4", "0", "set/deep", "absent.mp4"]
    assert collect(words).videos == [*words[:3], "set/deep/er/c.webm", "absent.mp4"]


def test_lists(place):
    (place / "plain.txt").write_text("set/b.mp4\n\nset/deep/er/c.webm\n")
    (place / "set" / "labelled.csv").write_text("b.mp4 3\ndeep/er/c.webm 0\n")
    (place / "counted.csv").write_text("set/frames 2 1\n")
    assert collect(["plain.txt"]).videos == ["set/b.mp4", "set/deep/er/c.webm"]
    found = collect(["set/labelled.csv", "counted.csv"])
    assert found.videos == ["set/b.mp4", "set/deep/er/c.webm", "set/frames"]
    assert found.lists == ["set/labelled.csv", "counted.csv"]
    with pytest.raises(UserError, match="there is no file no.csv"):
        collect(["no.csv"])


def test_a_list_of_names_with_spaces(place):
    (place / "my clip 5.mp4").write_bytes(b"x")
    (place / "list.txt").write_text("my clip 5.mp4\nset/b.mp4\nabsent 7.mp4\n")
    assert collect(["list.txt"]).videos == ["my clip 5.mp4", "set/b.mp4", "absent 7.mp4"]


def test_standard_input(place, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("set/b.mp4\n\n x.mp4 \n"))
    assert collect(["-"]).videos == ["set/b.mp4", "x.mp4"]


def test_a_folder_without_videos(place):
    (place / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no videos"):
        collect(["empty"])


def test_what_is_live(place):
    (place / "7").write_bytes(b"x")
    live = ["0", "rtsp://host/stream", "udp://127.0.0.1:5000", "https://host/live.m3u8"]
    assert all(map(is_live, [*live, "/dev/video0"]))
    assert not any(map(is_live, ["7", "a.mp4", "https://host/a.mp4", "set"]))
