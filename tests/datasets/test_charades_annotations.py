"""Official annotations of Charades become the lists of frames that the loader reads."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from slowfast.config.load import load_config
from slowfast.config.yaml_file import find_config
from slowfast.datasets import make_lists
from slowfast.datasets.build import build_dataset
from slowfast.datasets.charades_annotations import Action, frame_spans, from_charades
from slowfast.utils.errors import UserError

HEAD = "id,subject,scene,script,actions,length\n"


@pytest.fixture
def official(tmp_path):
    """Two training videos and a test video of 48 frames, two seconds; one more has no frames."""
    folder = tmp_path / "official"
    folder.mkdir()
    (folder / "Charades_v1_classes.txt").write_text("c000 Holding some clothes\nc001 Sitting, up\n")
    (folder / "Charades_v1_train.csv").write_text(
        HEAD
        + 'AAAAA,X,Bed,"A person, ""sitting"".",c001 0.50 1.00;c000 0.90 9.00,2.0\n'
        + "BBBBB,X,Bed,none,,2.0\nGONE0,X,Bed,none,c000 0 1,2.0\n"
    )
    (folder / "Charades_v1_test.csv").write_text(HEAD + "CCCCC,Y,Bed,x,c000 0.00 2.00,2.0\n")
    for name in ("AAAAA", "BBBBB", "CCCCC"):
        (tmp_path / "frames" / name).mkdir(parents=True)
        for number in range(1, 49):
            image = np.full((40, 40, 3), number, np.uint8)
            cv2.imwrite(str(tmp_path / "frames" / name / f"{name}-{number:06d}.jpg"), image)
    return folder


def test_labels_of_frames_by_hand():
    """24 images a second; the moments of start and end have no label."""
    actions = [Action(1, 0.5, 1.0), Action(0, 0.9, 9.0)]
    # 0.5 s is frame 12 and 1.0 s frame 24; 0.9 s lies between frames 21 and 22.
    expected = ((0, ()), (13, (1,)), (22, (0, 1)), (24, (0,)))
    assert frame_spans(actions, 48) == expected
    assert frame_spans([], 5) == ((0, ()),)


def test_from_the_official_files_to_a_data_set(official, tmp_path):
    made = from_charades(official, tmp_path / "frames")
    assert made.missing == ["train GONE0"]
    base = find_config("Charades/SLOWFAST_16x8_R50")
    config = make_lists.write_lists(made, tmp_path / "lists", base)
    cfg = load_config([config], ["NUM_GPUS", "0"])
    assert cfg.DATA.MULTI_LABEL and cfg.MODEL.NUM_CLASSES == 2
    train, val = (build_dataset(cfg, split) for split in ("train", "val"))
    assert train.class_names == ["Holding some clothes", "Sitting, up"]
    first, second = train.items
    assert first.labels == (0, 1) and second.labels == ()
    assert first.spans == ((0, ()), (13, (1,)), (22, (0, 1)), (24, (0,)))
    assert first.image_names[0] == "AAAAA-000001.jpg" and first.num_frames == 48
    assert [item.labels for item in val.items] == [(0,)]
    assert train[(0, 0)]["video"].shape[1] == 64


def test_images_of_every_format_that_is_read(official, tmp_path):
    folder = tmp_path / "frames" / "CCCCC"
    for number, suffix in enumerate((".PNG", ".bmp", ".webp"), 1):
        jpg = folder / f"CCCCC-{number:06d}.jpg"
        cv2.imwrite(str(jpg.with_suffix(suffix)), cv2.imread(str(jpg)))
        jpg.unlink()
    (folder / "notes.txt").write_text("no image")
    (item,) = from_charades(official, tmp_path / "frames").splits["val"]
    assert item.num_frames == 48
    assert item.image_names[0] == "CCCCC-000001.PNG"


@pytest.mark.parametrize(
    "file, text, message",
    [
        ("Charades_v1_train.csv", "id,length\nA,2\n", "has no column actions"),
        ("Charades_v1_train.csv", HEAD + "A,,,,c000 1,2\n", "'c000 1' is no action"),
        ("Charades_v1_test.csv", HEAD + "A,,,,c009 1 2,2\n", "has no class c009"),
        ("Charades_v1_classes.txt", "Holding some clothes\n", "is no class"),
    ],
)
def test_what_is_wrong_is_said(official, tmp_path, file, text, message):
    (official / file).write_text(text)
    with pytest.raises(UserError, match=message):
        from_charades(official, tmp_path / "frames")
    (official / file).unlink()
    with pytest.raises(UserError, match=f"there is no file .*{file}"):
        from_charades(official, tmp_path / "frames")
