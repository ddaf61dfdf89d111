"""The contact sheet, the report of the environment, and the comparison of states."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from slowfast.analysis import environment
from slowfast.analysis.contact_sheet import contact_sheet, draw_sheet, write_png
from slowfast.analysis.stress.resume import differences
from slowfast.datasets.build import build_dataset
from slowfast.utils.errors import UserError
from slowfast.video.device import Normalizer
from tests.conftest import ROOT


def test_pictures_are_what_went_in():
    video = torch.randint(0, 256, (2, 3, 4, 8, 8), dtype=torch.uint8)
    for bgr in (False, True):
        normalise = Normalizer((0.45, 0.4, 0.5), (0.225, 0.2, 0.25), bgr)
        seen = normalise.picture(normalise(video.clone(), torch.device("cpu")))
        expected = video.permute(0, 2, 3, 4, 1)
        assert (seen.int() - expected.int()).abs().max() <= 1


def test_sheet_layout():
    clips = np.zeros((3, 10, 16, 20, 3), np.uint8)
    clips[:, -1] = 200
    sheet = draw_sheet(clips, ["one", "two", "three"], columns=4)
    assert sheet.shape == (3 * (18 + 16 + 2), 4 * 22, 3)
    assert (sheet[20, 66 + 5] == 200).all() and (sheet[20, 5] == 0).all()


@pytest.mark.parametrize("split, rows", [("train", 2), ("val", 2), ("test", 12)])
def test_sheet_of_a_split(make_cfg, tmp_path, split, rows):
    cfg = make_cfg(
        {"AUG.ENABLE": True, "MIXUP.ENABLE": True, "MODEL.LOSS_FUNC": "soft_cross_entropy"}
    )
    image = contact_sheet(cfg, split, videos=2)
    assert image.shape == (rows * (18 + 34), 4 * 34, 3)
    write_png(image, tmp_path / "new" / "sheet.png")
    assert np.array_equal(cv2.imread(str(tmp_path / "new" / "sheet.png"))[..., ::-1], image)


def test_sheet_shows_the_very_sample(make_cfg):
    cfg = make_cfg()
    image = contact_sheet(cfg, "val", videos=1)
    sample = build_dataset(cfg, "val")[0]["video"]  # C T H W
    first = image[18:50, :32].astype(int)
    assert np.abs(first - sample[:, 0].permute(1, 2, 0).numpy()).max() <= 1


def test_picture_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="--out: cannot write"):
        write_png(np.zeros((4, 4, 3), np.uint8), tmp_path / "sheet.unknown")


# -- environment ---------------------------------------------------------------------------------


def test_this_environment_is_ready():
    findings = environment.examine(ROOT)
    names = [finding.name for finding in findings]
    for name in (
        "python",
        "torch",
        "av",
        "timm",
        "torchcodec [torchcodec]",
        "pytest [test]",
        "decoder pyav",
        "processor cores",
    ):
        assert name in names
    assert environment.is_ready(findings)


def test_missing_packages_are_named(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = [\n    "numpy>=999",\n    "surely-not-there>=1",\n]\n\n'
        '[project.optional-dependencies]\nextra = ["also-not-there>=2", "pytest>=7,<99"]\n\n[tool]\n'
    )
    findings = {f.name: f for f in environment.examine(tmp_path)}
    assert "needs >=999" in findings["numpy"].state and findings["numpy"].remedy
    assert str(findings["surely-not-there"]).startswith("MISSING")
    optional = findings["also-not-there [extra]"]
    assert 'pip install -e ".[extra]"' in optional.remedy and not optional.required
    assert findings["pytest [extra]"].remedy == ""
    assert not environment.is_ready(list(findings.values()))


# -- states --------------------------------------------------------------------------------------


def test_differences_are_named():
    a = {"w": torch.ones(3), "list": [1, {"x": 2.0}], "same": "text"}
    assert differences(a, {"w": torch.ones(3), "list": [1, {"x": 2.0}], "same": "text"}) == []
    b = {"w": torch.ones(3) + 1e-7, "list": [1, {"x": 3.0}], "more": 1}
    assert sorted(differences(a, b, "s")) == ["s.list.1.x", "s.more", "s.same", "s.w"]
