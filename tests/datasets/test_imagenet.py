"""Images in folders of classes: clips of one frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from slowfast.analysis.results import last_test
from slowfast.config.load import load_config
from slowfast.datasets.base import SampleKey
from slowfast.datasets.build import build_dataset
from slowfast.engine.launch import launch
from slowfast.engine.run import run_job
from slowfast.utils.errors import UserError
from slowfast.video.source import open_source
from tests.conftest import TINY, words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("imagenet")
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                image = rng.integers(0, 128, (40, 50, 3)).astype(np.uint8)
                image[..., label] += 100
                suffix = "JPEG" if number % 2 else "png"
                cv2.imwrite(str(root / split / name / f"{number}.{suffix}"), image[..., ::-1])
    (root / "train" / "cat" / "notes.txt").write_text("not an image")
    return root


@pytest.fixture
def make(folder, tmp_path):
    def build(**extra):
        values = TINY | {"TRAIN.DATASET": "imagenet", "TEST.DATASET": "imagenet"}
        values |= {"DATA.PATH_TO_DATA_DIR": folder, "DATA.NUM_FRAMES": 1, "MODEL.NUM_CLASSES": 2}
        values |= {"DATA.SAMPLING": "auto", "OUTPUT_DIR": tmp_path / "out"}
        return load_config(overrides=words(values | extra))

    return build


def test_images_are_clips_of_one_frame(make, folder):
    dataset = build_dataset(make(), "train")
    assert len(dataset) == 8 and dataset.class_names == ["cat", "dog"]
    sample = dataset[SampleKey(0, 5)]
    assert sample["video"].shape == (3, 1, 32, 32) and sample["label"] == 1
    assert build_dataset(make(), "test").item_list.source == str(folder / "val")
    source = open_source(dataset.items[0].path, "")
    (clip,) = source.frames([[0]])
    expected = cv2.imread(dataset.items[0].path, cv2.IMREAD_COLOR_RGB)
    assert source.num_frames == 1 and np.array_equal(clip[0], expected)


def test_crops_are_those_of_the_published_loader(make):
    assert make().DATA.TRAIN_JITTER_SCALES_RELATIVE == [0.08, 1.0]
    own = make(**{"DATA.TRAIN_JITTER_SCALES_RELATIVE": [0.5, 1.0]})
    assert own.DATA.TRAIN_JITTER_SCALES_RELATIVE == [0.5, 1.0]


def test_a_network_of_images_is_trained_and_tested(make):
    """The 2-D ResNet that C2D and I3D start from."""
    cfg = make(
        **{
            "MODEL.MODEL_NAME": "ResNet",
            "MODEL.ARCH": "2d",
            "RESNET.DEPTH": 18,
            "RESNET.TRANS_FUNC": "basic_transform",
            "RESNET.WIDTH_PER_GROUP": 8,
            "TEST.NUM_ENSEMBLE_VIEWS": 1,
            "TEST.NUM_SPATIAL_CROPS": 1,
            "SOLVER.MAX_EPOCH": 2,
        }
    )
    launch(cfg, run_job)
    test = last_test(cfg.OUTPUT_DIR)
    assert test.facts["videos"] == 4 and test.classes == ["cat", "dog"]


def test_folders_that_hold_none(make, tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        build_dataset(make(**{"DATA.PATH_TO_DATA_DIR": tmp_path / "none"}), "train")
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no <class>/<image> files"):
        build_dataset(make(**{"DATA.PATH_TO_DATA_DIR": tmp_path}), "train")
