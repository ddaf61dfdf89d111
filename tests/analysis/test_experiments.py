"""The generated files under exp/ and the page that lists the experiments."""

from __future__ import annotations

import re
import shutil

import pytest
import yaml

from slowfast.analysis.experiment_page import first_sentence, read_experiment
from slowfast.analysis.experiments import MARKER, generated_files, stale_files, write_files
from slowfast.utils.errors import UserError
from tests.conftest import ROOT, run_tool


@pytest.fixture
def project(tmp_path):
    """A copy of what the generator reads and writes."""
    for name in ("exp", "configs", "pretrained"):
        ignored = shutil.ignore_patterns("*.pth", "*.pyth", "*.pt")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    return tmp_path


def test_nothing_is_out_of_date():
    """Scripts, heads over frames and the index page are what the tables say."""
    done = run_tool("make_experiments.py", "--check")
    remedy = "run python tools/make_experiments.py"
    assert (done.returncode, done.stdout) == (0, ""), done.stderr or remedy


def test_every_experiment_is_generated_or_written_by_hand():
    texts = generated_files(ROOT)
    scripts = [path for path in texts if path.suffix == ".sh"]
    heads = [path for path in texts if path.name == "config.yaml"]
    assert len(heads) == 2 * 2 * 11
    assert len({texts[path] for path in scripts}) == 2  # one text of run.sh, one of test.sh
    by_hand = {p.parent.name for p in (ROOT / "exp").glob("*/*.sh")} - {
        p.parent.name for p in scripts
    }
    assert by_hand == {
        *("finetune", "quickstart", "quickstart_fewshot", "quickstart_zeroshot"),
        *("evidence_families", "evidence_fewshot", "evidence_starts"),
        *("evidence_stfm", "evidence_zeroshot"),
        *("compare_heads", "compare_families", "compare_convolutions"),
        *("stdd_vitb16_b2n", "stdd_vitb16_zeroshot"),
    }


def test_a_changed_file_is_found_and_written_again(project):
    run = project / "exp" / "stam_16_k400" / "run.sh"
    text = run.read_text()
    run.write_text(text + "echo\n")
    config = project / "exp" / "jester_squeezenet_mlp_8" / "config.yaml"
    config.unlink()
    assert set(stale_files(project)) == {run, config}
    assert set(write_files(project)) == {run, config}
    assert run.read_text() == text and config.exists() and stale_files(project) == []


def test_a_script_that_cannot_be_run_is_found(project):
    run = project / "exp" / "stam_16_k400" / "run.sh"
    run.chmod(0o644)
    assert stale_files(project) == [run]
    write_files(project)
    assert run.stat().st_mode & 0o111 == 0o111


def test_a_script_without_the_marker_belongs_to_its_author(project):
    folder = project / "exp" / "stam_16_k400"
    (folder / "run.sh").write_text("#!/usr/bin/env bash\necho mine\n")
    (folder / "test.sh").unlink()
    assert stale_files(project) == [] and write_files(project) == []
    assert not (folder / "test.sh").exists()


def test_a_new_experiment_gets_scripts_and_a_row(project):
    folder = project / "exp" / "stam_24_k400"
    folder.mkdir()
    (folder / "config.yaml").write_text(
        "# STAM-24, Kinetics-400, 24 frames: a guess.\n"
        "_BASE_: ../../configs/Kinetics/STAM_16.yaml\nDATA:\n  NUM_FRAMES: 24\n"
    )
    page = project / "exp" / "README.md"
    assert {path.name for path in stale_files(project)} == {"run.sh", "test.sh"}
    assert set(write_files(project)) == {folder / "run.sh", folder / "test.sh", page}
    (row,) = [line for line in page.read_text().splitlines() if "stam_24_k400" in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:5] == ["STAM-24", "Kinetics-400", "24 over the video, 224²", "1 × 1"]
    assert cells[6] == ""  # another number of frames: the accuracy of STAM-16 is not its own


def test_a_folder_without_a_group_is_named(project):
    folder = project / "exp" / "other"
    folder.mkdir()
    shutil.copy(ROOT / "exp/stam_16_k400/config.yaml", folder)
    with pytest.raises(UserError, match="no group for the folder other"):
        write_files(project)


def test_the_page_names_every_folder_once():
    page = (ROOT / "exp" / "README.md").read_text()
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)/(?:config.yaml|run.sh)\)", page, re.M)
    folders = sorted(p.name for p in (ROOT / "exp").iterdir() if p.is_dir())
    assert sorted(name for name, _ in rows) == folders
    assert all(name == link for name, link in rows)
    assert len(folders) == 29 + 21 + 16 + 45 + 10 + 3 + 13


def test_accuracies_are_those_of_the_same_configuration():
    """Of the page's numbers: no STFM row has one, MViTv2-S has its own on each data set."""
    page = (ROOT / "exp" / "README.md").read_text()
    cells = {
        row[0].split("]")[0].strip("[ "): [cell.strip() for cell in row]
        for row in (line.strip("|").split("|") for line in page.splitlines() if "| [" in line)
    }
    assert cells["mvitv2_s16x4_k400"][6] == "81.0 (1 × 5) `MViTv2_S_16x4_k400`"
    assert cells["mvitv2_s16_sthv2"][6] == "68.2 (3 × 1) `MViTv2_S_16x4_ssv2`"
    assert cells["timesformer_b8_sthv2"][6].startswith("59.5 ")
    with_stfm = [row for row in cells.values() if "STFM" in row[1] and len(row) > 6]
    assert len(with_stfm) == 29 + 5 and not any(row[6] for row in with_stfm)


DATA_SETS = {  # as titles name them: (registered name, classes)
    "Kinetics-400": ("kinetics", 400),
    "Kinetics-600": ("kinetics", 600),
    "Something-Something v1": ("sth", 174),
    "Something-Something v2": ("sth ssv2", 174),
    "Jester": ("jester", 27),
    "Charades": ("charades", 157),
}


def test_titles_say_what_the_configuration_does():
    checked = 0
    for file in sorted((ROOT / "exp").glob("*/config.yaml")):
        experiment = read_experiment(file.parent, ROOT)
        cfg = experiment.cfg
        assert ("STFM" in experiment.network) == cfg.STFM.ENABLE, file.parent.name
        if cfg.TASK == "fewshot" or experiment.data not in DATA_SETS:
            continue
        names, classes = DATA_SETS[experiment.data]
        found = (cfg.TRAIN.DATASET in names.split(), cfg.MODEL.NUM_CLASSES)
        assert found == (True, classes), file.parent.name
        version = re.search(r"somesomev(\d)", cfg.DATA.LABEL_PATH_TEMPLATE)
        if cfg.TRAIN.DATASET == "sth":
            assert experiment.data.endswith(f"v{version[1]}"), file.parent.name
        frames = re.search(r"(\d+) (?:frames|segments)", first_sentence(file))
        assert int(frames[1]) == cfg.DATA.NUM_FRAMES, file.parent.name
        checked += 1
    assert checked == 29 + 21 + 16 + 46 + 1


def test_misleading_names_exist():
    remarks = yaml.safe_load((ROOT / "exp" / "recipes.yaml").read_text())["misleading"]
    patterns = [name for text in remarks for name in re.findall(r"`([^`]+)`", text)]
    assert len(patterns) >= 6
    for pattern in patterns:
        assert list((ROOT / "exp").glob(pattern)), pattern


def test_the_marker_is_in_every_generated_file():
    assert all(MARKER in text for text in generated_files(ROOT).values())


def test_weights_that_only_the_call_names_stand_in_the_page(project):
    """Charades starts from Kinetics, which no key of the network can say."""
    page = (ROOT / "exp" / "README.md").read_text()
    (row,) = [
        line for line in page.splitlines() if line.startswith("| [slowfast_16x8_r50_charades]")
    ]
    assert "| `SLOWFAST_8x8_R50` | 38.9 mAP" in row
    recipes = project / "exp" / "recipes.yaml"
    text = recipes.read_text()
    for old, new in (
        ("slowfast_16x8_r50_charades: S", "gone: S"),
        (": SLOWFAST_8x8_R50\n", ": X\n"),
    ):
        recipes.write_text(text.replace(old, new))
        with pytest.raises(UserError, match="starts names (gone|X), which is no experiment"):
            stale_files(project)
