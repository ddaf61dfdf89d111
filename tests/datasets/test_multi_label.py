"""Videos with several labels: lists of videos and of frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from slowfast.config.load import load_config
from slowfast.datasets.base import SampleKey
from slowfast.datasets.build import build_dataset
from slowfast.datasets.items import ItemList
from slowfast.datasets.lists import read_path_list
from slowfast.datasets.loader import construct_loader
from slowfast.datasets.multi_label import (
    HEADER,
    MULTI_LABEL_FORM,
    MultiLabelItem,
    binary_vector,
    format_items,
    parse_labels,
    read_frame_list,
)
from slowfast.utils.errors import UserError
from tests.conftest import TINY, words
from tests.several_labels import VALUES, write_set

SPANS = ((0, (3,)), (4, ()), (6, (1, 3)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("charades"), {"train": 5, "val": 5})


@pytest.fixture
def make(folder, tmp_path):
    def build(**extra):
        values = TINY | VALUES | {"DATA.PATH_TO_DATA_DIR": folder, "DATA.PATH_PREFIX": folder}
        return load_config(overrides=words(values | {"OUTPUT_DIR": tmp_path / "out"} | extra))

    return build


def write(path, *rows, header=HEADER):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


# -- items -----------------------------------------------------------------------------------------


def test_labels_of_frames():
    item = MultiLabelItem("v", spans=SPANS)
    assert item.labels == (1, 3)
    assert item.labels_between(0, 3) == (3,) and item.labels_between(4, 5) == ()
    assert item.labels_between(3, 6) == (1, 3) and item.labels_between(5, 9) == (1, 3)
    assert item.labels_between(9, 9) == (1, 3) and item.label == -1


def test_classes_get_other_numbers():
    item = MultiLabelItem("v", spans=SPANS)
    assert item.relabelled([5, 6, 7, 2]).spans == ((0, (2,)), (4, ()), (6, (2, 6)))
    assert item.relabelled([0, None, 2, 3]).labels == (3,)
    assert item.relabelled([0, None, 2, None]) is None
    assert MultiLabelItem("v").relabelled([None]).labels == ()


def test_fingerprint_knows_when_a_label_holds():
    one, other = (
        ItemList([MultiLabelItem("v", spans=((0, (1,)), (start, ())))], "list") for start in (3, 4)
    )
    assert one.fingerprint != other.fingerprint


def test_vector():
    assert binary_vector((0, 2), 4).tolist() == [1, 0, 1, 0]
    assert binary_vector((), 2).tolist() == [0, 0]


@pytest.mark.parametrize(
    "text, labels",
    [("3", (3,)), ("12,3,7,3", (3, 7, 12)), ('"3,7"', (3, 7)), ('""', ()), ("3, 7", (3, 7))],
)
def test_texts_of_labels(text, labels):
    assert parse_labels(text) == labels


@pytest.mark.parametrize("text", ["a", "3;7", "3,,7", "-1", "3,", "1" * 30])
def test_wrong_texts_of_labels(text):
    with pytest.raises(ValueError):
        parse_labels(text)


# -- lists of videos -------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [" ", ",", ";"])
def test_list_of_videos(tmp_path, separator):
    """A comma separates labels, whatever DATA.PATH_LABEL_SEPARATOR says."""
    path = tmp_path / "train.csv"
    path.write_text('a.mp4 3,7,12\nmy dog.mp4 5\n"b 1.mp4" ""\n')
    items = read_path_list(path, separator, "videos", "KEY", MULTI_LABEL_FORM)
    assert [item.labels for item in items] == [(3, 7, 12), (5,), ()]
    assert [item.path for item in items] == ["videos/a.mp4", "videos/my dog.mp4", "videos/b 1.mp4"]
    again = tmp_path / "again.csv"
    again.write_text(format_items(items, counted=False))
    assert [i.labels for i in read_path_list(again, " ", "", "KEY", MULTI_LABEL_FORM)] == [
        item.labels for item in items
    ]


def test_counted_list_of_videos(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("a 300 3,7\nb 20 1\n")
    items = read_path_list(path, " ", "", "KEY", MULTI_LABEL_FORM)
    assert [(i.path, i.num_frames, i.labels) for i in items] == [
        ("a", 300, (3, 7)),
        ("b", 20, (1,)),
    ]
    assert format_items(items, counted=True) == "a 300 3,7\nb 20 1\n"


def test_lines_without_labels_are_named(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("a.mp4 3,7\nb.mp4 3,x\n")
    with pytest.raises(UserError, match="train.csv:2"):
        read_path_list(path, " ", "", "KEY", MULTI_LABEL_FORM)


# -- lists of frames -------------------------------------------------------------------------------


def test_list_of_frames(tmp_path):
    """Rows of several videos may be mixed; neighbouring frames with equal labels are one span."""
    rows = ['v1 0 0 f/a/1.jpg "3"', 'v2 1 0 f/b/1.jpg ""', 'v1 0 1 f/a/2.jpg "3"']
    rows += ['v1 0 2 f/a/9.jpg "7,3"', 'v2 1 1 f/b/2.jpg "0"']
    one, other = read_frame_list(write(tmp_path / "val.csv", *rows), "root", "KEY")
    assert one.path == "root/f/a" and one.image_names == ["1.jpg", "2.jpg", "9.jpg"]
    assert one.spans == ((0, (3,)), (2, (3, 7))) and one.num_frames == 3 and one.line == 2
    assert other.spans == ((0, ()), (1, (0,)))
    again = tmp_path / "again.csv"
    again.write_text(format_items([one, other], counted=True))
    assert [i.label_text for i in read_frame_list(again, "", "KEY")] == [
        one.label_text,
        other.label_text,
    ]


@pytest.mark.parametrize(
    "row, message",
    [
        ("v1 0 0 f/a/2.jpg", "has 4 columns"),
        ('v1 0 0 f/a/2.jpg "3,x"', "no numbers"),
        ('v1 0 0 f/b/2.jpg "3"', "lie in f/b and f/a"),
        ('v1 0 0 f/a/ "3"', "no name of an image"),
    ],
)
def test_wrong_rows_are_named(tmp_path, row, message):
    path = write(tmp_path / "train.csv", 'v1 0 0 f/a/1.jpg "3"', row)
    with pytest.raises(UserError, match=message) as caught:
        read_frame_list(path, "", "KEY")
    assert f"{path}:3" in str(caught.value)


def test_lists_that_are_none(tmp_path):
    for header, rows, message in (
        ("path label", ["a.mp4 3"], "does not begin with the columns"),
        (HEADER, [], "no row but its header"),
    ):
        with pytest.raises(UserError, match=message):
            read_frame_list(write(tmp_path / "train.csv", *rows, header=header), "", "KEY")
    with pytest.raises(UserError, match="there is no file"):
        read_frame_list(tmp_path / "nothing.csv", "", "KEY")
    (tmp_path / "bytes.csv").write_bytes(HEADER.encode() + b"\nv \xff 0 a/b.jpg 3\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read_frame_list(tmp_path / "bytes.csv", "", "KEY")


# -- the data set ----------------------------------------------------------------------------------


def test_training_clips_have_the_labels_of_their_frames(make, folder):
    """4 frames with stride 2 span 7 of 36: the union of the labels from the first to the last."""
    dataset = build_dataset(make(), "train")
    seen = set()
    for epoch in range(40):
        sample = dataset[SampleKey(epoch, 0)]
        assert sample["label"].shape == (4,) and sample["label"].dtype == torch.float32
        seen.add(tuple(sample["label"].tolist()))
    first, second = dataset.items[0].spans[0][1], dataset.items[0].spans[2][1]
    expected = {tuple(binary_vector(labels, 4).tolist()) for labels in (first, (), second)}
    assert seen == expected
    assert dataset[SampleKey(0, 4)]["label"].tolist() == [0, 0, 0, 0]


def test_validation_and_test_have_the_labels_of_the_video(make):
    for split in ("val", "test"):
        dataset = build_dataset(make(), split)
        for index, item in enumerate(dataset.items):
            assert dataset[index]["label"].tolist() == binary_vector(item.labels, 4).tolist()


def test_batches(make):
    loader = construct_loader(make(), "train")
    loader.batch_sampler.set_epoch(0)
    batch = next(iter(loader))
    assert batch.label.shape == (4, 4) and batch.size == 4 and batch.video.shape[0] == 4


def test_frames_are_those_of_the_list(make, folder):
    import cv2

    dataset = build_dataset(make(), "val")
    source = dataset.reader.open(dataset.items[0])
    (clip,) = source.frames([[0, 5]])
    image = cv2.imread(f"{dataset.items[0].path}/000005.png", cv2.IMREAD_COLOR_RGB)
    assert source.num_frames == 36 and np.array_equal(clip[1], image)


def test_mirrored_clips_get_the_other_labels(make, folder):
    cfg = make(**{"DATA.RANDOM_FLIP": True, "DATA.MIRROR_CLASSES": "names"})
    reader = build_dataset(cfg, "train").reader
    assert reader._mirrored((0, 2)) == (1, 2)
    assert build_dataset(make(), "train").reader._mirrored((0, 2)) == (0, 2)
    assert reader._mirrored(()) == ()


def test_lists_of_videos_with_several_labels(make, shapes, tmp_path):
    """Any list in Kinetics format, with labels that hold for the whole video."""
    videos = [line.split()[0] for line in (shapes / "train.csv").read_text().splitlines()]
    lines = [f"{video} {number % 4},{(number + 1) % 4}" for number, video in enumerate(videos)]
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    values = {"TRAIN.DATASET": "kinetics", "TEST.DATASET": "kinetics"}
    values |= {"DATA.PATH_TO_DATA_DIR": tmp_path, "DATA.PATH_PREFIX": shapes}
    dataset = build_dataset(make(**values), "train")
    assert dataset[SampleKey(0, 1)]["label"].tolist() == [0, 1, 1, 0]


def test_keys_that_do_not_fit(make, folder):
    for extra, message in (
        ({"DATA.MULTI_LABEL": False}, "videos of charades have several labels"),
        ({"TRAIN.DATASET": "folder"}, "videos of folder have one label each"),
        ({"MODEL.LOSS_FUNC": "cross_entropy"}, "set MODEL.LOSS_FUNC bce_logit"),
        ({"MODEL.HEAD_ACT": "softmax"}, "set MODEL.HEAD_ACT sigmoid"),
        ({"MIXUP.ENABLE": True}, "one label a clip"),
        ({"TEST.METRICS": "['mean_class_accuracy']"}, "one label a video"),
        ({"DATA.BATCH_SAMPLER": "class_balanced"}, "one label a video"),
        ({"TASK": "fewshot"}, "one label a video"),
    ):
        with pytest.raises(UserError, match=message):
            make(**extra)


def test_labels_outside_of_the_classes(make, folder):
    with pytest.raises(UserError, match=r"label 3 is outside 0\.\.2"):
        build_dataset(make(**{"MODEL.NUM_CLASSES": 3, "DATA.PATH_TO_DATA_DIR": folder}), "train")
