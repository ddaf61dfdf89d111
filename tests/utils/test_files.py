"""Atomic writing, folders and hashes."""

from __future__ import annotations

import hashlib
import os

import pytest

from slowfast.utils.errors import RunFailure, UserError
from slowfast.utils.files import make_dirs, short_hash, write_atomic, write_text_atomic


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
