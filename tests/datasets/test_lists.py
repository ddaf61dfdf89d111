"""Every list format, and what is said about lines that cannot be read."""

from __future__ import annotations

import json

import pytest

from slowfast.config.load import load_config
from slowfast.datasets import checks, lists
from slowfast.datasets.build import DATASET_REGISTRY
from slowfast.datasets.class_folders import read_class_folders
from slowfast.utils.errors import UserError
from tests.conftest import words


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text, separator, expected",
    [
        ("a/b.mp4 3\nc.mp4 0\n", " ", [("a/b.mp4", 3, 0), ("c.mp4", 0, 0)]),
        ("a b/c d.mp4 3\n", " ", [("a b/c d.mp4", 3, 0)]),
        ("v1 120 4\nv2 33 0\n", " ", [("v1", 4, 120), ("v2", 0, 33)]),
        ("a.mp4,3\nb,c.mp4,1\n", ",", [("a.mp4", 3, 0), ("b,c.mp4", 1, 0)]),
        ("a.mp4,3\nb.mp4,1\n", " ", [("a.mp4", 3, 0), ("b.mp4", 1, 0)]),  # found by itself
        ('"x, y.mp4",2\n', ",", [("x, y.mp4", 2, 0)]),
        ("path,label\na.mp4,2\nb.mp4,1\n", ",", [("a.mp4", 2, 0), ("b.mp4", 1, 0)]),
        ("dir 1 2\nother.mp4 1\n", " ", [("dir 1", 2, 0), ("other.mp4", 1, 0)]),
    ],
)
def test_path_lists(tmp_path, text, separator, expected):
    items = lists.read_path_list(write(tmp_path / "l.csv", text), separator, "", "K")
    assert [(i.path, i.label, i.num_frames) for i in items] == expected


def test_prefix_and_line_numbers(tmp_path):
    items = lists.read_path_list(write(tmp_path / "l.csv", "\na.mp4 1\n"), " ", "/videos", "K")
    assert items[0].path == "/videos/a.mp4" and items[0].line == 2


def test_bad_lines_are_named(tmp_path):
    path = write(tmp_path / "l.csv", "a.mp4 1\nb.mp4\nc.mp4 x\nd.mp4 2\n")
    with pytest.raises(UserError) as caught:
        lists.read_path_list(path, " ", "", "K")
    text = str(caught.value)
    assert f"{path}:2" in text and f"{path}:3" in text and f"{path}:4" not in text


def test_many_bad_lines_are_summed_up(tmp_path):
    path = write(tmp_path / "l.csv", "ok 1\n" * 30 + "bad\n" * 20)
    with pytest.raises(UserError, match="and 15 more lines"):
        lists.read_path_list(path, " ", "", "K")


def test_missing_and_empty(tmp_path):
    with pytest.raises(UserError, match="DATA.X: there is no file"):
        lists.read_path_list(tmp_path / "absent.csv", " ", "", "DATA.X")
    with pytest.raises(UserError, match="is empty"):
        lists.read_path_list(write(tmp_path / "e.csv", "\n"), " ", "", "DATA.X")


def test_class_folders(tmp_path):
    for name in ("run/a.mp4", "run/b.avi", "jump/c.webm", "jump/notes.txt", "run/frames/1.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    found = read_class_folders(tmp_path, "K")
    assert found.class_names == ["jump", "run"] and found.left_out == ["jump/notes.txt"]
    ends = [(i.path.removeprefix(str(tmp_path) + "/"), i.label) for i in found.items]
    assert ends == [("jump/c.webm", 0), ("run/a.mp4", 1), ("run/b.avi", 1), ("run/frames", 1)]


def test_ucf101(tmp_path):
    write(tmp_path / "classInd.txt", "1 ApplyEyeMakeup\n2 Archery\n")
    write(tmp_path / "trainlist01.txt", "Archery/v_Archery_g01_c01.avi 2\n")
    write(tmp_path / "testlist01.txt", "ApplyEyeMakeup/v_x.avi\nArchery/v_y.avi\n")
    items, names = lists.read_ucf101(tmp_path, "train", 1, "/ucf")
    assert names == ["ApplyEyeMakeup", "Archery"]
    assert [(i.path, i.label) for i in items] == [("/ucf/Archery/v_Archery_g01_c01.avi", 1)]
    items, _ = lists.read_ucf101(tmp_path, "test", 1, "")
    assert [i.label for i in items] == [0, 1]
    write(tmp_path / "testlist01.txt", "Boxing/v_x.avi\n")
    with pytest.raises(UserError, match="'Boxing' is not in classInd.txt"):
        lists.read_ucf101(tmp_path, "val", 1, "")


def test_hmdb51(tmp_path):
    write(tmp_path / "wave_test_split1.txt", "a b.avi 1 \nc.avi 2 \nd.avi 0 \n")
    write(tmp_path / "clap_test_split1.txt", "e.avi 1\n")
    items, names = lists.read_hmdb51(tmp_path, "train", 1, "/h")
    assert names == ["clap", "wave"]
    assert [(i.path, i.label) for i in items] == [("/h/clap/e.avi", 0), ("/h/wave/a b.avi", 1)]
    items, _ = lists.read_hmdb51(tmp_path, "test", 1, "")
    assert [i.path for i in items] == ["wave/c.avi"]


def test_ssv2(tmp_path):
    labels = {"Holding something": "1", "Approaching something": "0"}
    write(tmp_path / "something-something-v2-labels.json", json.dumps(labels))
    rows = [{"id": "7", "template": "Holding [something]"}]
    write(tmp_path / "something-something-v2-train.json", json.dumps(rows))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "7.webm").touch()
    items, names = lists.read_ssv2(tmp_path, "train", 1, str(tmp_path / "videos"))
    assert names == ["Approaching something", "Holding something"]
    assert items[0].label == 1 and items[0].path.endswith("7.webm")
    (tmp_path / "frames" / "7").mkdir(parents=True)
    header = "original_vido_id video_id frame_id path labels\n"
    write(tmp_path / "train.csv", header + '7 0 0 7/7_1.jpg ""\n7 0 1 7/7_2.jpg ""\n')
    items, _ = lists.read_ssv2(tmp_path, "train", 1, str(tmp_path / "frames"))
    assert items[0].num_frames == 2 and items[0].path.endswith("frames/7")


def test_jester(tmp_path):
    write(tmp_path / "jester-v1-labels.csv", "Doing other things\nSwiping Left\n")
    write(tmp_path / "jester-v1-train.csv", "34870;Swiping Left\n")
    write(tmp_path / "jester-v1-validation.csv", "1;Swiping Up\n")
    items, _ = lists.read_jester(tmp_path, "train", 1, "/j")
    assert (items[0].path, items[0].label) == ("/j/34870", 1)
    with pytest.raises(UserError, match="jester-v1-validation.csv:1"):
        lists.read_jester(tmp_path, "val", 1, "/j")


def test_labels_and_paths_are_checked(tmp_path):
    items = [lists.Item("/nowhere/a.mp4", 5, 0, 7), lists.Item("/nowhere/b.mp4", 1, 0, 8)]
    (problem,) = checks.check_labels(items, 4, "l.csv")
    assert "label 5 is outside 0..3" in str(problem) and "l.csv:7" in str(problem)
    (problem,) = checks.check_paths(items, "l.csv")
    assert problem.key == "DATA.PATH_PREFIX" and "/nowhere/a.mp4" in problem.message


def test_fingerprint_names_the_copy():
    one = lists.ItemList([lists.Item("/a/x.mp4", 1)], "s")
    moved = lists.ItemList([lists.Item("/b/x.mp4", 1)], "s")
    other = lists.ItemList([lists.Item("/b/x.mp4", 2)], "s")
    assert one.fingerprint == moved.fingerprint != other.fingerprint


def test_videofolder_lists_of_trn(tmp_path):
    """``folder frames label`` with category.txt, beside or instead of the official files."""
    write(tmp_path / "train_videofolder.txt", "34870 37 1\n56557 12 0\n")
    write(tmp_path / "val_videofolder.txt", "9223 2 0\n")
    write(tmp_path / "category.txt", "Doing other things\nDrumming Fingers\n")
    folder = {"NUM_GPUS": 0, "DATA.PATH_TO_DATA_DIR": tmp_path, "DATA.PATH_PREFIX": "rgb"}
    cfg = load_config(overrides=words(folder))
    for name in ("jester", "ssv2"):
        found = DATASET_REGISTRY.get(name).read_list(cfg, "train")
        assert [(i.path, i.num_frames, i.label) for i in found.items] == [
            ("rgb/34870", 37, 1),
            ("rgb/56557", 12, 0),
        ]
        assert found.class_names == ["Doing other things", "Drumming Fingers"]
        assert len(DATASET_REGISTRY.get(name).read_list(cfg, "test").items) == 1


NAMES = ["line\nbreak", "carriage\rreturn", "tab\there", "bell\a", "not-utf8-\udcff", "del\x7f"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_no_list_holds(name, tmp_path):
    for path in (tmp_path / "a" / name / "v.mp4", tmp_path / "b" / "run" / f"{name}.mp4"):
        path.parent.mkdir(parents=True)
        path.touch()
        with pytest.raises(UserError, match="1 names cannot stand in a list"):
            lists.find_videos(path.parents[1], "K")
        with pytest.raises(UserError, match="cannot stand in a list"):
            read_class_folders(path.parents[1], "K")
    with pytest.raises(UserError, match="cannot stand in a list"):
        lists.format_path_list([lists.Item(f"{name}.mp4", 0)], False)


def test_class_names_are_lines(tmp_path):
    for name in (" a", "a ", "a\u00a0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "v.mp4").touch()
        with pytest.raises(UserError, match="begin or end with a space"):
            read_class_folders(tmp_path, "K")
        (tmp_path / name / "v.mp4").unlink()
        (tmp_path / name).rmdir()


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "data, expected",
    [
        (MARK + b"a.mp4 1\nb.mp4 0\n", [("a.mp4", 1), ("b.mp4", 0)]),
        (b"a.mp4 1\rb.mp4 0\r", [("a.mp4", 1), ("b.mp4", 0)]),
        (b'"a ""b"".mp4" 1\n', [('a "b".mp4', 1)]),
        (b'"a  b.mp4" 1\n', [("a  b.mp4", 1)]),
        (b"a  b.mp4   1\n", [("a  b.mp4", 1)]),
        (b'"' + b"x" * 200_000 + b'" 1\n', [("x" * 200_000, 1)]),
        (b"video_id num_frames label\na.mp4 5 1\n", [("a.mp4", 1)]),
        (MARK + b"Path,Label\na.mp4,1\n", [("a.mp4", 1)]),
        (b'"path","label"\n"a.mp4",1\n', [("a.mp4", 1)]),
        ("a.mp4 1\nä.mp4 -1\n".encode(), [("a.mp4", 1), ("ä.mp4", -1)]),
    ],
)
def test_files_of_any_editor(tmp_path, data, expected):
    file = tmp_path / "l.csv"
    file.write_bytes(data)
    found = lists.read_path_list(file, " ", "", "K")
    assert [(item.path, item.label) for item in found] == expected


def test_a_header_is_said(tmp_path, caplog):
    lists.read_path_list(write(tmp_path / "l.csv", "path label\na.mp4 1\n"), " ", "", "K")
    assert "the first line is left out as a header: path label" in caplog.text


@pytest.mark.parametrize(
    "data, said",
    [
        (b'"a.mp4 1\nb.mp4 0\n', "l.csv:1: has a quote that is not closed"),
        (b'b.mp4 0\n"a.mp4 1\n', "l.csv:2: has a quote that is not closed"),
        (b'"a"b.mp4 1\n', "l.csv:1: goes on after a closed quote"),
        (b"a.mp4 one\nb.mp4 0\n", "l.csv:1: cannot be read as path and label"),  # no header
        (b"my video\nb.mp4 0\n", "l.csv:1: cannot be read as path and label"),
        (b"path label\n", "holds no line but a header"),
        (b"a.mp4 " + b"9" * 5000 + b"\n", "l.csv:1: the label is a number of 5000 digits"),
        (b"a.mp4 " + b"9" * 5000 + b" 1\n", "l.csv:1: the count is a number of 5000 digits"),
        (b"a.mp4 1\n\0b.mp4 1\n", "line 2 holds a NUL byte"),
        (b"a.mp4 1\nb\x1b.mp4 1\n", "l.csv:2: holds the control character"),
        (b"a.mp4 1\nb\tc.mp4 1\n", "l.csv:2: holds a line break or another control character"),
        ("a.mp4 1\n".encode("utf-16"), "is UTF-16 text: save it as UTF-8"),
        ("a.mp4 1\n".encode("utf-16-le"), "as in UTF-16 text: save it as UTF-8"),
        ("a.mp4 1\n".encode("utf-32"), "is UTF-32 text"),
        (b"a.mp4 1\n\xff.mp4 1\n", "line 2 is not UTF-8"),
        ("a.mp4 ²\n".encode(), "cannot be read as path and label"),
        (b'a.mp4 5 1\n"b.mp4" 5 0\n"c.mp4" 1\n', "l.csv:2: has three columns"),
        (MARK, "is empty"),
    ],
)
def test_files_that_are_no_lists(tmp_path, data, said):
    file = tmp_path / "l.csv"
    file.write_bytes(data)
    with pytest.raises(UserError) as caught:
        lists.read_path_list(file, " ", "", "K")
    assert said in str(caught.value) and len(str(caught.value)) < 600


PATHS = [
    "two  spaces",
    " a",
    "a ",
    'quo"te',
    '"a"',
    "a,5",
    "a\u00a0",
    "5 7",
    "\ufeffa",
    "a -5",
    '"',
    "\u2028",
]


@pytest.mark.parametrize("counted", [True, False])
def test_written_paths_are_read(tmp_path, counted):
    items = [lists.Item(path, label, 7, label + 1) for label, path in enumerate(PATHS)]
    file = write(tmp_path / "l.csv", lists.format_path_list(items, counted))
    found = lists.read_path_list(file, " ", "", "K")
    assert [(i.path, i.label) for i in found] == [(i.path, i.label) for i in items]
    assert {item.num_frames for item in found} == {7 if counted else 0}


@pytest.mark.parametrize(
    "text, said",
    [
        ("[" * 100_000, "nested too deep"),
        ("1" * 5000, "is not valid JSON"),
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ("{", "is not valid JSON"),
        ("{}", "is not a map of templates|has no"),
        ("3", "is not a"),
        ('[{"id": 3, "template": "x"}]', "has no id and template"),
        ('["x"]', "has no id and template"),
    ],
)
def test_json_of_any_content(tmp_path, text, said):
    labels = tmp_path / "something-something-v2-labels.json"
    write(labels, '{"x": "0"}')
    write(tmp_path / "something-something-v2-train.json", text)
    if text == "{}":
        said = "is not a list of videos"
    with pytest.raises(UserError, match=said):
        lists.read_ssv2(tmp_path, "train", 1, "")
    write(labels, text)
    with pytest.raises(UserError, match="JSON|is not a map"):
        lists.read_ssv2(tmp_path, "train", 1, "")


def test_links_out_of_class_folders(tmp_path):
    for name in ("set/run/a.mp4", "other/b.mp4"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "set/linked").symlink_to(tmp_path / "other")
    (tmp_path / "set/run/b.mp4").symlink_to(tmp_path / "other/b.mp4")
    found = read_class_folders(tmp_path / "set", "K")
    assert found.class_names == ["run"] and len(found.items) == 1
    found = read_class_folders(tmp_path / "set", "K", follow_links=True)
    assert found.class_names == ["linked", "run"] and len(found.items) == 3
    data = {"DATA.PATH_TO_DATA_DIR": tmp_path / "set", "NUM_GPUS": 0}
    for follow in (True, False):
        cfg = load_config(overrides=words(data | {"DATA.FOLLOW_LINKS": follow}))
        found = DATASET_REGISTRY.get("folder").read_list(cfg, "train")
        assert len(found.items) == (3 if follow else 1)


def test_stems_are_no_folders_of_others():
    assert lists.stems_of(["a.mp4", "a/b.mp4", "c.mp4", "d/e.mp4"]) == {
        "a.mp4": "a.mp4",
        "a/b.mp4": "a/b",
        "c.mp4": "c",
        "d/e.mp4": "d/e",
    }
