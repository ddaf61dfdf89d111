"""Which addresses are permitted, how they are joined, and that no message shows a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from slowfast.utils.addresses import (
    check_address,
    in_folder,
    is_address,
    is_below,
    join,
    problem_of,
    without_secrets,
)
from slowfast.utils.errors import UserError


@pytest.mark.parametrize(
    "address, part",
    [
        ("s3://bucket/a.mp4", ""),
        ("hf://datasets/me/set/a b?.mp4", ""),
        ("https://host:8000/a.mp4", ""),
        ("file:///etc/passwd", "file://"),
        ("FILE:///etc/passwd", "FILE://"),
        ("simplecache::s3://bucket/a", "no address"),
        ("ftp://host/a", "ftp://"),
        ("s3:///a", "no host or bucket"),
        ("https://me:word@host/a", "password"),
        ("s3://key:word@bucket/a", "password"),
        ("https://host/a?X-Amz-Signature=abc", "query"),
        ("s3://bucket/a/../../other", "above"),
        ("https://host/videos/%2e%2e/secret.mp4", "above"),
        ("https://host/videos/.%2E%2fsecret.mp4", "above"),
        ("https://[host/a", "Invalid"),
    ],
)
def test_permitted_addresses(address, part):
    if part == "no address":  # a chain of fsspec is a name of a file like any other
        assert not is_address(address)
        return
    assert is_address(address)
    assert (part in problem_of(address)) if part else not problem_of(address)
    if part:
        with pytest.raises(UserError) as error:
            check_address(address, "KEY")
        assert "word" not in str(error.value).replace("password", "") and "abc" not in str(error)


@pytest.mark.parametrize("path", ["a.mp4", "/a/b", "a::b.mp4", "c:\\a", "", "a//b", "://a"])
def test_paths_are_no_addresses(path):
    assert not is_address(path)


def test_join():
    assert join("s3://b/x/", "y/z.mp4") == "s3://b/x/y/z.mp4"
    assert join("s3://b/x", "https://h/z.mp4") == "https://h/z.mp4"
    assert join("s3://b/x", "/etc/passwd") == "/etc/passwd"  # refused by the check of the list
    assert join("/data", "a.mp4") == "/data/a.mp4" and join("", "a.mp4") == "a.mp4"
    assert in_folder("/data", "l.csv") == Path("/data/l.csv")
    assert in_folder("s3://b", "l.csv") == "s3://b/l.csv"


def test_is_below():
    places = ["", "/data", "s3://bucket/videos/"]
    assert is_below("s3://bucket/videos/a.mp4", places)
    assert not is_below("s3://bucket/videos-of-others/a.mp4", places)
    assert not is_below("s3://bucket/videos", places)
    assert not is_below("https://host/a", places)


def test_messages_hold_no_secrets():
    text = "403, url='https://me:word@cdn.host/a.mp4?Signature=abc&Expires=1' (why?)"
    assert without_secrets(text) == "403, url='https://cdn.host/a.mp4?…' (why?…"
    assert without_secrets("is it there?") == "is it there?"
