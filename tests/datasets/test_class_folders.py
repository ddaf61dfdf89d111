"""Folders of classes: which files are videos."""

from __future__ import annotations

from slowfast.datasets.lists import read_class_folders


def test_every_kind_of_video_is_found(tmp_path):
    names = [
        "a.mp4",
        "b.avi",
        "c.mkv",
        "d.webm",
        "e.mov",
        "f.m4v",
        "g.mpg",
        "h.mpeg",
        "i.flv",
        "j.wmv",
        "K.MP4",
    ]
    for folder in ("wave", "jump", ".hidden"):
        (tmp_path / folder).mkdir()
        for name in [*names, "notes.txt", "cover.jpg"]:
            (tmp_path / folder / name).touch()
    items, classes = read_class_folders(tmp_path, "K")
    assert classes == ["jump", "wave"]
    found = [(item.path, item.label) for item in items]
    assert sorted(found) == sorted(
        (str(tmp_path / folder / name), label)
        for label, folder in enumerate(classes)
        for name in names
    )
