"""Options that several commands share."""

from __future__ import annotations

from slowfast.cli.options import class_names


def test_class_names_are_a_file_or_words(tmp_path):
    file = tmp_path / "a,b.txt"
    file.write_text("left\nright\n")
    assert class_names(None) is None
    assert class_names(str(file)) == str(file)
    assert class_names("feeding a cat, washing a dog,") == ["feeding a cat", "washing a dog"]
