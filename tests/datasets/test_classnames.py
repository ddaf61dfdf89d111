"""Class names in every form, and the check of their order."""

from __future__ import annotations

import json

import pytest

from slowfast.datasets.classnames import match_classes, read_class_names
from slowfast.datasets.lists import Item, ItemList
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


def listed(names: list[str], labels: list[int]) -> ItemList:
    return ItemList([Item(f"v{n}.mp4", label) for n, label in enumerate(labels)], "l.csv", names)


def labels_of(item_list: ItemList) -> list[int]:
    return [item.label for item in item_list.items]


KNOWN = ["a", "b", "c"]


def test_equal_classes_change_nothing():
    for names, known in ((KNOWN, KNOWN), (KNOWN, []), ([], [])):
        same = listed(names, [2, 0])
        assert match_classes(same, known, "strict") is same


def test_a_list_without_names_gets_those_of_the_weights():
    found = match_classes(listed([], [2, 0]), KNOWN, "strict")
    assert found.class_names == KNOWN and labels_of(found) == [2, 0]


@pytest.mark.parametrize("policy", ["names", "known", "permute"])
@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (["c", "a", "b"], [0, 1, 2, 0], [2, 0, 1, 2]),  # another order
        (["c", "b"], [0, 1, 1], [2, 1, 1]),  # a part of the classes
        (["x", "c", "a", "b"], [1, 3], [2, 1]),  # a further class, without videos
    ],
)
def test_classes_are_found_by_name(policy, names, labels, expected):
    found = match_classes(listed(names, labels), KNOWN, policy)
    assert labels_of(found) == expected and found.class_names == KNOWN and found.left_out == 0
    assert [item.path for item in found.items] == [f"v{n}.mp4" for n in range(len(labels))]


def test_classes_that_the_weights_do_not_know(caplog):
    more = listed(["c", "x", "y"], [0, 1, 2, 1, 0])
    with pytest.raises(UserError, match="3 of 5 videos of l.csv show .* not know: 'x', 'y'") as e:
        match_classes(more, KNOWN, "names")
    assert "set DATA.CLASS_ORDER known" in str(e.value) and "'a', 'b', 'c'" in str(e.value)
    found = match_classes(more, KNOWN, "known")
    assert labels_of(found) == [2, 2] and found.left_out == 3
    assert [item.path for item in found.items] == ["v0.mp4", "v4.mp4"]
    assert "3 videos of 2 classes that the weights do not know are left out" in caplog.text
    with pytest.raises(UserError, match="2 of 2 videos") as e:
        match_classes(listed(["x"], [0, 0]), KNOWN, "known")
    assert "known to leave" not in str(e.value)  # nothing would be left


@pytest.mark.parametrize(
    ("names", "first"),
    [(["a", "c", "b"], "class 1 is 'c' .* and 'b'"), (["a", "b"], "class 2 is None .* and 'c'")],
)
def test_any_difference_can_be_an_error(names, first):
    with pytest.raises(UserError, match=first) as caught:
        match_classes(listed(names, [0, 1]), KNOWN, "strict")
    assert caught.value.problems[0].key == "DATA.CLASS_ORDER"


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
