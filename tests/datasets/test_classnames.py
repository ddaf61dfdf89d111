"""Class names in every form, and the check of their order."""

from __future__ import annotations

import json

import pytest

from slowfast.datasets.classnames import check_order, read_class_names
from slowfast.utils.errors import UserError


@pytest.mark.parametrize(
    "content", [["b", "a"], {"b": 0, "a": 1}, {"0": "b", "1": "a"}, {"a": "1", "b": "0"}]
)
def test_json_forms(tmp_path, content):
    path = tmp_path / "names.json"
    path.write_text(json.dumps(content))
    assert read_class_names(path) == ["b", "a"]


def test_text_with_spaces(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("swipe left\nswipe right\n")
    assert read_class_names(path) == ["swipe left", "swipe right"]


def test_gaps_are_refused(tmp_path):
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"a": 0, "b": 2}))
    with pytest.raises(UserError, match="without gaps"):
        read_class_names(path)


def test_order():
    assert check_order(["a", "b"], ["a", "b"], "strict") is None
    assert check_order([], ["a", "b"], "strict") is None
    with pytest.raises(UserError, match=r"\[2, 0, 1\]"):
        check_order(["c", "a", "b"], ["a", "b", "c"], "strict")
    assert check_order(["c", "a", "b"], ["a", "b", "c"], "permute") == [2, 0, 1]
    with pytest.raises(UserError, match="not in the checkpoint: d"):
        check_order(["a", "d"], ["a", "b"], "permute")


@pytest.mark.parametrize(
    "content, expected",
    [
        ('{"0": "a", "1": "b"}', ["a", "b"]),
        ('{"a": 1, "b": 0}', ["b", "a"]),
        ('{"0": "1", "1": "0"}', ["1", "0"]),  # classes may be called by numbers
        ('["a", "b"]', ["a", "b"]),
    ],
)
def test_maps_of_both_directions(content, expected, tmp_path):
    (tmp_path / "map.json").write_text(content)
    assert read_class_names(tmp_path / "map.json") == expected


@pytest.mark.parametrize(
    "content, expected",
    [
        ('{"0": "a", "2": "b"}', "without gaps, 1 is missing"),
        ('{"a": 0, "b": 0}', "without gaps"),
        ('{"a": "b"}', "is not a map of labels to names"),
        ("3", "is not a map of labels to names"),
    ],
)
def test_maps_that_are_none(content, expected, tmp_path):
    (tmp_path / "map.json").write_text(content)
    with pytest.raises(UserError, match=expected):
        read_class_names(tmp_path / "map.json")


@pytest.mark.parametrize("name", [True, None, 1.5, ["a"]])
def test_names_are_texts_or_whole_numbers(name, tmp_path):
    file = tmp_path / "names.json"
    file.write_text(json.dumps(["a", name]))
    with pytest.raises(UserError, match="class 1 is called"):
        read_class_names(file)
    file.write_text(json.dumps(["a", 7]))
    assert read_class_names(file) == ["a", "7"]
