"""``--dry-run``: all is in place only if it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slowfast.engine.run import main
from slowfast.utils.errors import UserError
from tests.conftest import ROOT, words

CONFIG = str(ROOT / "configs/quickstart/uniformer.yaml")


@pytest.fixture
def dry_run(tiny_words):
    """``dry_run({"KEY": value})`` -> the lines of its log, without their heads."""

    def run(values: dict) -> list[str]:
        assert main(["--cfg", CONFIG, "--dry-run", *words(tiny_words | values)]) == 0
        with open(f"{tiny_words['OUTPUT_DIR']}/stdout.log") as log:
            return [line.split(": ", 2)[2].rstrip("\n") for line in log]

    return run


def test_all_is_in_place(dry_run):
    assert dry_run({})[-1] == "dry run: all is in place; no checkpoint was written"


def test_a_folder_without_parts_is_trained_and_tested_on(dry_run, shapes, tmp_path):
    for path in (shapes / "videos/train").iterdir():
        target = tmp_path / "mine" / path.name.split("_")[0]
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (tmp_path / "mine/left/broken.mp4").write_bytes(b"no video")
    data = {"TRAIN.DATASET": "folder", "TEST.DATASET": "folder", "MIXUP.ALPHA": 0.5}
    data |= {"DATA.PATH_TO_DATA_DIR": tmp_path / "mine", "DATA.MAX_ERROR_SHARE": 1.0}
    lines = dry_run(data)
    start = lines.index("dry run: it runs, but consider (no checkpoint was written):")
    said = lines[start + 1 :]
    assert "MIXUP.ALPHA (MIXUP.ENABLE is False)" in said[0]
    assert any("17 of 17 videos" in text and "also trained on" in text for text in said)
    assert not any(":0:" in line for line in lines)


def test_what_cannot_run_is_an_error(dry_run, tmp_path):
    with pytest.raises(UserError, match="holds no moving_shapes set"):
        dry_run({"DATA.PATH_TO_DATA_DIR": tmp_path})


def test_the_schedule_of_multigrid_training(tiny_words):
    """And how long all its batches take, of whatever size."""
    config = str(ROOT / "configs/quickstart/slowfast_multigrid.yaml")
    data = {k: v for k, v in tiny_words.items() if k.startswith(("DATA", "TRAIN.D", "TEST", "OUT"))}
    small = {"TRAIN.BATCH_SIZE": 2, "MODEL.NUM_CLASSES": 4, "RESNET.WIDTH_PER_GROUP": 4}
    small |= {"DATA.NUM_FRAMES": 8, "MULTIGRID.SHORT_CYCLE": False, "NUM_GPUS": 0}
    assert main(["--cfg", config, "--dry-run", *words(data | small)]) == 0
    log = Path(tiny_words["OUTPUT_DIR"], "stdout.log").read_text()
    assert "multigrid training, 9 epochs:" in log
    # four epochs of 4 batches, two of 8, then one of 4 and two of 8: 52 batches
    assert "1-4   4 x 4 x 32²; rate 3 to 6" in log and "5-6   2 x 8 x 32²; rate 3" in log
    assert "; 9 epochs of 6 batches take about" in log
