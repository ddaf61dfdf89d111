"""What is read and what is written never meet; links lead nowhere unasked."""

from __future__ import annotations

import os

import pytest

from slowfast.utils.errors import UserError
from slowfast.utils.paths import Tree, is_within, refuse_meeting, refuse_overwriting


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "in/a.mp4").write_bytes(b"a")
    (tmp_path / "in/sub/b.mp4").write_bytes(b"b")
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.mark.parametrize("target", ["in/a.mp4", "in/../in/a.mp4", "link", "hard", "folder/a.mp4"])
def test_one_file_by_any_name(place, target):
    (place / "link").symlink_to("in/a.mp4")
    os.link(place / "in/a.mp4", place / "hard")
    (place / "folder").symlink_to("in")
    with pytest.raises(UserError, match="is read: it would be overwritten"):
        refuse_overwriting(["other", "in/a.mp4"], ["out/x", target])
    refuse_overwriting(["in/sub/b.mp4", "absent"], [target, "absent2"])


@pytest.mark.parametrize("target", ["in", "in/../in", "link", "in/new", "link/new/deep", "."])
def test_one_folder_by_any_name(place, target):
    """Also below the folder that is read, and above it where a file would fall on one of it."""
    (place / "link").symlink_to("in")
    made = ["in/a.mp4"] if target == "." else ["a.mp4", "x/b.mp4"]
    with pytest.raises(UserError, match="TARGET: "):
        refuse_meeting("in", ["a.mp4", "sub/b.mp4"], target, made)


def test_links_inside_the_target(place):
    (place / "out/sub").symlink_to("../in/sub")
    with pytest.raises(UserError, match="out/sub is in/sub|lies in in"):
        refuse_meeting("in", ["sub/b.avi"], "out", ["sub/b.mp4"])
    (place / "out/sub").unlink()
    os.link(place / "in/a.mp4", place / "out/c.mp4")
    with pytest.raises(UserError, match="which is in/a.mp4"):
        refuse_meeting("in", ["a.mp4"], "out", ["c.mp4"])
    refuse_meeting("in", ["a.mp4"], "out", ["a.mp4"])
    refuse_meeting("in", ["a.mp4"], "in2", ["a.mp4"])  # the name begins alike


def test_links_out_of_a_tree(place, caplog):
    (place / "in/out").symlink_to("/etc")
    (place / "in/file").symlink_to("/etc/hostname")
    (place / "in/broken").symlink_to("nowhere")
    (place / "in/itself").symlink_to("itself")
    (place / "in/sub/up").symlink_to("..")
    (place / "in/same.mp4").symlink_to("a.mp4")
    tree = Tree("in")
    assert tree.files() == ["a.mp4", "same.mp4", "sub/b.mp4"]
    tree.warn()
    assert "2 links lead out of it" in caplog.text and "--follow-links" in caplog.text
    (place / "other").mkdir()
    (place / "other/c.mp4").touch()
    (place / "other/in").symlink_to(place / "in")
    (place / "in/out").unlink()
    (place / "in/out").symlink_to(place / "other")
    assert Tree("in", follow_links=True).files() == [
        *("a.mp4", "file", "out/c.mp4", "same.mp4", "sub/b.mp4")
    ]


def test_the_root_itself_may_be_a_link(place):
    (place / "link").symlink_to("in")
    assert Tree("link").files() == ["a.mp4", "sub/b.mp4"]
    assert is_within("link/sub", "in") and not is_within("in", "in/sub")


def test_deep_and_unreadable_folders(place):
    deep = place / "in"
    for _ in range(300):
        deep = deep / "d"
    deep.mkdir(parents=True)
    assert len(Tree("in").files()) == 2
    with pytest.raises(UserError, match="cannot be read"):
        Tree("in").entries("absent")
