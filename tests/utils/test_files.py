"""Atomic writing, folders and hashes."""

from __future__ import annotations

import hashlib
import os
import sys

import pytest

from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.files import (
    append_line,
    file_hash,
    make_dirs,
    replace_folder,
    settle_folders,
    short_hash,
    write_atomic,
    write_text_atomic,
)


def test_a_line_stands_alone(tmp_path):
    file = tmp_path / "lines"
    append_line(file, "ä")
    append_line(file, "b")
    with open(file, "a") as half:
        half.write("ha")  # the process died while it wrote this
    append_line(file, "c")
    assert file.read_text(encoding="utf-8") == "ä\nb\nha\nc\n"


def test_the_file_appears_with_its_whole_content(tmp_path):
    target = tmp_path / "result.txt"
    seen = []

    def write(path: str) -> None:
        with open(path, "w") as file:
            file.write("new")
        seen.append(target.read_text())

    write_text_atomic(target, "old")
    with target.open() as reader:
        write_atomic(target, write)
        assert reader.read() == "old"  # who has it open reads the old file to its end
    assert seen == ["old"] and target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("bad")])
def test_a_failure_leaves_the_old_file(tmp_path, error):
    target = tmp_path / "result.txt"
    target.write_text("old")

    def write(path: str) -> None:
        with open(path, "w") as file:
            file.write("half of")
        raise error

    expected = RunFailure if isinstance(error, OSError) else ValueError
    with pytest.raises(expected) as caught:
        write_atomic(target, write)
    if expected is RunFailure:
        assert str(caught.value).startswith(f"cannot write {target}: No space left on device")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_pipe_and_an_open_file_stay_what_they_are(tmp_path):
    """As /dev/null and /dev/stdout, which root could replace by a file."""
    pipe, log, name = tmp_path / "pipe", tmp_path / "log", tmp_path / "stdout"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_text_atomic(pipe, "new")
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    log.write_text("before, ")
    with log.open("a") as file:
        name.symlink_to(f"/proc/self/fd/{file.fileno()}")
        write_text_atomic(name, "new")
        assert name.is_symlink() and os.path.samestat(os.fstat(file.fileno()), os.stat(log))
    assert log.read_text() == "before, new"
    assert sorted(tmp_path.iterdir()) == [log, pipe, name]


def test_a_missing_folder_is_an_error_of_the_run(tmp_path):
    with pytest.raises(RunFailure, match="cannot write .*No such file or directory"):
        write_text_atomic(tmp_path / "missing" / "result.txt", "text")


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_permissions_follow_the_umask(tmp_path, mask, mode):
    """Others of the group may read what a run writes, if the user lets them."""
    before = os.umask(mask)
    try:
        write_text_atomic(tmp_path / "result.txt", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "result.txt").stat().st_mode & 0o777 == mode


def test_text_is_utf8(tmp_path):
    write_text_atomic(tmp_path / "a", "± 0.5 …")
    assert (tmp_path / "a").read_bytes() == "± 0.5 …".encode()


def test_folders_are_made_with_their_parents(tmp_path):
    assert make_dirs(tmp_path / "a" / "b").is_dir()
    assert make_dirs(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^OUTPUT_DIR: cannot create the folder .*/file/sub: "):
        make_dirs(tmp_path / "file" / "sub", "OUTPUT_DIR")


def test_hash_is_that_of_the_joined_parts():
    assert short_hash("ab", b"c") == hashlib.sha256(b"abc").hexdigest()[:12]
    assert short_hash("é") == hashlib.sha256("é".encode()).hexdigest()[:12]
    assert short_hash("ab") != short_hash("ba")


# -- whole folders -------------------------------------------------------------------------------


def write_files(**texts):
    """What fills a folder with files."""

    def fill(folder):
        (folder / "below").mkdir()
        for name, text in texts.items():
            (folder / name).write_text(text)
            (folder / "below" / name).write_text(text)

    return fill


def names_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_folder_takes_the_place_of_another(tmp_path):
    target = tmp_path / "test"
    replace_folder(target, write_files(a="1", b="2"))
    assert names_of(target) == ["a", "b", "below", "below/a", "below/b"]
    replace_folder(target, write_files(c="3"))
    assert names_of(target) == ["below", "below/c", "c"] and (target / "c").read_text() == "3"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("bad")])
@pytest.mark.parametrize("when", ["fill", "rename"])
def test_a_failure_leaves_the_old_folder(tmp_path, error, when, monkeypatch):
    target = tmp_path / "test"
    replace_folder(target, write_files(a="old"))

    def fill(folder):
        write_files(a="half of")(folder)
        if when == "fill":
            raise error

    rename = os.rename

    def rename_or_fail(source, goal):
        if when == "rename" and str(source).endswith(".tmp"):
            raise error
        rename(source, goal)

    monkeypatch.setattr(os, "rename", rename_or_fail)
    with pytest.raises(RunFailure if isinstance(error, OSError) else ValueError):
        replace_folder(target, fill)
    assert (target / "a").read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_what_killed_processes_left_is_settled(tmp_path):
    target = tmp_path / "test"
    replace_folder(target, write_files(a="old"))
    os.rename(target, tmp_path / ".test.old")  # killed between two renames
    (tmp_path / ".other.old").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / ".someones").mkdir()
    settle_folders(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".someones", "other", "test"]
    assert (target / "a").read_text() == "old"
    settle_folders(tmp_path / "missing")


def test_hash_of_a_file(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 5_000_000)
    assert file_hash(tmp_path / "f") == hashlib.sha256(b"x" * 5_000_000).hexdigest()
